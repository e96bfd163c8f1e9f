
# not a directive: a blank line came first
# escape=`
from alpine:3.20
  # an indented comment
run apk add --no-cache \
# a comment inside
      curl \

      # another, indented

      git   \  
  && rm -rf /tmp/*
label description="a \
long text" version=1.0
  env A 1
ENV B   two  words
maintainer Some One <one@example.com>
cmd	echo	tabs
