FROM debian:bookworm
RUN if [ "$(uname -m)" = x86_64 ]; then \
      echo "64 << bits"; \
    fi; \
    printf '%s\n' 'a\\b' "c << d" > /f; \
    cat /f | tr a-z A-Z
RUN echo $((1 << 3)) && echo "<<NOT" && echo '<<NOR'
RUN echo ends with two backslashes \\
RUN echo one
