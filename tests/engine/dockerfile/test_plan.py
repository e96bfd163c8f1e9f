"""Stages, what they need, and where ARGs come from."""

from __future__ import annotations

import pytest

from pipeline.engine.dockerfile.instructions import DockerfileError
from pipeline.engine.dockerfile.parse import parse_dockerfile
from pipeline.engine.dockerfile.plan import BuildPlan, automatic_args, plan_build

Pairs = list[tuple[str, str]]


def _plan(
    text: str, *, target: str = "", build_args: Pairs | None = None, platform: str = "linux/arm64"
) -> BuildPlan:
    return plan_build(
        parse_dockerfile(text),
        platform=platform,
        build_platform="linux/amd64",
        build_args=build_args or [],
        target=target,
    )


MULTI = """
FROM golang AS build
RUN go build
FROM node AS assets
RUN npm run build
FROM build AS test
RUN go test
FROM scratch
COPY --from=build /app /app
RUN --mount=from=1,target=/x ls
"""


def test_only_stages_that_the_target_uses_are_needed() -> None:
    """By FROM, COPY --from and mounts, by name and by number; `test` is left out."""
    plan = _plan(MULTI)

    assert plan.target == 3
    assert plan.needed() == {0, 1, 3}
    assert [sorted(stage.needs) for stage in plan.stages] == [[], [], [0], [0, 1]]
    assert [stage.base_stage for stage in plan.stages] == [None, None, 0, None]


@pytest.mark.parametrize(("target", "index"), [("TEST", 2), ("test", 2), ("1", 1), ("", 3)])
def test_a_target_is_found_by_name_or_number(target: str, index: int) -> None:
    """Names are case-insensitive; without one it is the last stage."""
    assert _plan(MULTI, target=target).target == index


def test_an_unknown_target_is_refused() -> None:
    """The hint names the stages that exist."""
    with pytest.raises(DockerfileError, match='target stage "nope" could not be found') as caught:
        _plan(MULTI, target="nope")

    assert caught.value.hint == "its stages are build, assets, test"


def test_from_lines_are_expanded_with_what_stands_before_the_first() -> None:
    """Defaults may use earlier ones; what is passed wins; the platforms are there without an ARG."""
    text = """
ARG REPO=example.com/base
ARG IMAGE=$REPO/python TAG
FROM --platform=$BUILDPLATFORM ${IMAGE}:${TAG:-latest} AS a
FROM a
FROM x-$TARGETARCH
"""

    stages = _plan(text, build_args=[("TAG", "3.12"), ("UNUSED", "x")]).stages

    assert [(s.base, s.base_stage, s.platform) for s in stages] == [
        ("example.com/base/python:3.12", None, "linux/amd64"),
        ("a", 0, "linux/amd64"),
        ("x-arm64", None, "linux/arm64"),
    ]


def test_a_later_stage_of_a_name_hides_the_earlier_and_images_of_that_name() -> None:
    """A stage can be named like the image it starts from."""
    plan = _plan("FROM alpine AS alpine\nFROM alpine AS alpine\nFROM alpine")

    assert [stage.base_stage for stage in plan.stages] == [None, 0, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ARG A", "cannot build `Dockerfile`: it has no FROM"),
        (
            "RUN a\nFROM b",
            "cannot parse `Dockerfile` line 1: no build stage in current context:"
            " only ARG may stand before FROM",
        ),
        ("FROM $NOPE", "cannot build `Dockerfile` line 1: base name ($NOPE) should not be blank"),
        ("FROM ${A", "cannot build `Dockerfile` line 1: syntax error: missing '}'"),
        (
            "FROM a\nCOPY --from=1 a b",
            "cannot build `Dockerfile` line 2: invalid stage index 1: 0 stages stand before this one",
        ),
        (
            "FROM a\nCOPY --from=$X a b",
            "cannot build `Dockerfile` line 2: variables are not expanded in `from=$X`",
        ),
        (
            "# syntax=example.com/my/frontend:2\nFROM a",
            'cannot build `Dockerfile` line 1: syntax frontend "example.com/my/frontend:2" is unsupported',
        ),
    ],
    ids=["no from", "before from", "blank base", "bad base", "own index", "variable from", "frontend"],
)
def test_what_cannot_be_planned_is_refused(text: str, message: str) -> None:
    """With the line where there is one."""
    with pytest.raises(DockerfileError) as caught:
        _plan(text)

    assert str(caught.value) == message


@pytest.mark.parametrize(
    "syntax",
    [
        "docker/dockerfile",
        "docker/dockerfile:1.7-labs",
        "docker.io/docker/dockerfile:1",
        "docker/dockerfile@sha256:0",
    ],
)
def test_the_usual_frontend_is_the_one_built_in(syntax: str) -> None:
    """Whatever its version."""
    assert len(_plan(f"# syntax={syntax}\nFROM a").stages) == 1


def test_automatic_arguments_describe_both_platforms() -> None:
    """All eight, the variant empty where there is none."""
    assert automatic_args("linux/arm/v7", "linux/amd64") == {
        "BUILDPLATFORM": "linux/amd64",
        "BUILDOS": "linux",
        "BUILDARCH": "amd64",
        "BUILDVARIANT": "",
        "TARGETPLATFORM": "linux/arm/v7",
        "TARGETOS": "linux",
        "TARGETARCH": "arm",
        "TARGETVARIANT": "v7",
    }
