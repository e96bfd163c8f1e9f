# syntax=docker/dockerfile:1.7
ARG PYTHON_VERSION=3.12
FROM python:${PYTHON_VERSION}-slim AS base
ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PIP_NO_CACHE_DIR=off
WORKDIR /app

FROM base AS build
COPY requirements.txt .
RUN --mount=type=cache,target=/root/.cache/pip,sharing=locked \
    python -m venv /venv && \
    /venv/bin/pip install -r requirements.txt
COPY . .
RUN ["python", "-m", "compileall", "-q", "src"]

FROM base
COPY --from=build --chown=1000:1000 /venv /venv
COPY --from=build /app/src ./src
USER 1000:1000
EXPOSE 8000/tcp
HEALTHCHECK --interval=30s --timeout=3s --start-period=5s --retries=3 \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://localhost:8000/health')"]
ENTRYPOINT ["/venv/bin/python", "-m", "app"]
CMD ["--port", "8000"]
