"""Which Dockerfiles make images, from which context, under which name."""

from __future__ import annotations

from pipeline.detect.dockerfiles import DockerfileFound, find_dockerfiles, image_name


def test_each_dockerfile_gets_a_name_and_its_folder_as_context() -> None:
    files = ["dockerfile", "web/Dockerfile", "worker.Dockerfile", "Dockerfile.debug", "web/app.py"]

    found = find_dockerfiles(files, "shop", {"web/Dockerfile": "COPY app.py /"}.get)

    assert found == (
        DockerfileFound(path="Dockerfile.debug", context=".", image="shop-debug"),
        DockerfileFound(path="dockerfile", context=".", image="shop"),
        DockerfileFound(path="worker.Dockerfile", context=".", image="shop-worker"),
        DockerfileFound(path="web/Dockerfile", context="web", image="shop-web"),
    )


def test_a_dockerfile_that_copies_what_only_the_root_has_is_built_from_the_root() -> None:
    files = ["docker/Dockerfile", "src/app.py", "pyproject.toml"]
    text = "FROM python\nCOPY --chown=1:1 \\\n  pyproject.toml src /app/\nCOPY --from=build /x /y"

    [found] = find_dockerfiles(files, "shop", {"docker/Dockerfile": text}.get)

    assert found.context == "."


def test_dockerfiles_of_tests_docs_and_examples_are_left_out() -> None:
    files = ["tests/Dockerfile", "docs/Dockerfile", "a/examples/x/Dockerfile", "Dockerfile.dockerignore"]

    assert find_dockerfiles(files, "shop", lambda _: None) == ()


def test_an_image_name_is_lower_case_with_single_separators() -> None:
    assert image_name("My_App--Web.v2") == "my-app-web-v2"
    assert image_name("___") == "image"
