FROM ruby:3.3
ONBUILD COPY Gemfile Gemfile.lock /usr/src/app/
ONBUILD RUN bundle install
ONBUILD RUN <<END
echo trigger
END
ONBUILD COPY --chown=app:app . /usr/src/app
onbuild user app
HEALTHCHECK NONE
