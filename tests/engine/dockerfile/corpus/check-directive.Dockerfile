# check=skip=JSONArgsRecommended;error=true
# syntax = docker/dockerfile:1.9
FROM alpine
CMD echo hi
