FROM alpine
ENV ONE="two words" TWO=two\ words THREE='single $ONE' FOUR="with \"quotes\" inside"
ENV PATH /opt/bin:$PATH
ENV EMPTY= ALSO=""
LABEL "com.example.vendor"="ACME Incorporated"
LABEL com.example.label-with-value="foo" other='a=b=c' \
      multi="line \
continued"
ARG NAME="a b" OTHER=c BARE
USER "$NAME"
EXPOSE 80/tcp 443 $PORT
STOPSIGNAL 9
