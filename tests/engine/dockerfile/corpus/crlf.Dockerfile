FROM alpine
RUN echo a \
  && echo b
COPY <<E /x
body
E
CMD ["x"]
