FROM alpine
ADD https://example.com/archive.tar.gz /tmp/
ADD --checksum=sha256:24454f830cdb571e2c4ad15481119c43b3cafd48dd869a9b2945d1036d1dc68d https://example.com/a /a
ADD --keep-git-dir=true https://github.com/moby/buildkit.git#v0.10.1 /buildkit
ADD git@git.example.com:foo/bar.git /bar
ADD --unpack=false rootfs.tar.xz /
ADD --chown=1:2 --chmod=644 --link vendor.tgz /opt
ADD <<A <<"B" /inline/
a $HOME
A
b $HOME
B
