# syntax=docker/dockerfile:1-labs
FROM alpine AS One
COPY --parents ./a/./b/*.txt /dst/
COPY --exclude=*.md --exclude=**/node_modules . /src
FROM alpine AS two-x.y_z
COPY --from=one /a /b
COPY --from=0 --link --chown=user:group --chmod=u=rwX,go=rX "/q" /r/
COPY arr[[]0].txt hom?.txt *.c /mydir/
