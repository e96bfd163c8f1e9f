FROM debian:bookworm-slim
RUN groupadd -r postgres --gid=999; useradd -r -g postgres --uid=999 postgres
ENV GOSU_VERSION 1.17
ENV LANG en_US.utf8
RUN set -eux; \
# this hurts, but is needed
	dpkgArch="$(dpkg --print-architecture | awk -F- '{ print $NF }')"; \
	wget -O /usr/local/bin/gosu "https://example.com/gosu-$dpkgArch"; \
	chmod +x /usr/local/bin/gosu
RUN mkdir /docker-entrypoint-initdb.d
VOLUME /var/lib/postgresql/data
COPY docker-entrypoint.sh /usr/local/bin/
ENTRYPOINT ["docker-entrypoint.sh"]
STOPSIGNAL SIGINT
EXPOSE 5432
CMD ["postgres"]
