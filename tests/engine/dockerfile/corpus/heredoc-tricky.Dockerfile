FROM alpine
RUN <<A cat <<B
x
A
y
B
RUN python3 <<EOF1
FROM nothing
  # kept
EOF1
COPY <<-robots.txt <<humans.txt /usr/share/
	User-agent: *
	robots.txt
humans
humans.txt
RUN 3<<FD cat <&3
three
FD
RUN <<EOF2 sh -s \
  -- arg
echo $1
EOF2
