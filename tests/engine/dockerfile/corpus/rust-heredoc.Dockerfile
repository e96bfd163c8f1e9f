FROM rust:1.79 AS builder
RUN <<SETUP
set -eux
apt-get update
apt-get install -y --no-install-recommends pkg-config
rm -rf /var/lib/apt/lists/*
SETUP
RUN <<-"BUILD"
	set -e
	echo "$HOME is literal here"
	cargo build --release
	BUILD
RUN <<'#!'
#!/usr/bin/env bash
echo hi
#!
RUN cat <<ONE >/one && cat <<TWO >/two
first
ONE
second
TWO
FROM debian:bookworm-slim
COPY --from=builder /target/release/app /usr/local/bin/
CMD app
