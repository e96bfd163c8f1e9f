FROM busybox
COPY ["file with space.txt", "other file.txt", "/target dir/"]
ADD [ "a", "b/" ]
RUN ["/bin/sh", "-c", "echo \"quoted\" \\ \u00e9"]
RUN [ "$HOME" = /root ] && echo yes
RUN ['single', 'quotes']
CMD []
ENTRYPOINT [ ]
VOLUME /one /two
VOLUME ["/three"]
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
