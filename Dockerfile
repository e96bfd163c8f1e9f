# syntax=docker/dockerfile:1
# The pipeline as an image: run it privileged, with the project mounted at /project.
FROM python:3.11-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY requirements.lock .
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv /opt/pipeline && /opt/pipeline/bin/pip install --no-deps --require-hashes -r requirements.lock
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY pipeline pipeline
RUN --mount=type=cache,target=/root/.cache/pip /opt/pipeline/bin/pip install --no-deps .

FROM python:3.11-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates debian-archive-keyring git iproute2 iptables mmdebstrap runc \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/pipeline /opt/pipeline
ENV PATH=/opt/pipeline/bin:$PATH
WORKDIR /project
ENTRYPOINT ["pipeline"]
CMD ["run"]
