"""How the Dockerfiles of real repositories are read, beside BuildKit's parser; which bases have a stand-in.

    python benchmarks/dockerfiles.py REPOSITORY...     # clones, or their git directories

The files are those of HEAD. A file that a build would refuse is printed with its reason.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from pipeline.engine.dockerfile.instructions import DockerfileError
from pipeline.engine.dockerfile.parse import parse_dockerfile
from pipeline.engine.dockerfile.plan import SCRATCH, Stage, plan_build
from pipeline.engine.recipes.recipe import find_recipe, why_no_recipe
from tests.engine.dockerfile.test_parse_oracle import read_as_buildkit, read_here


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """One Dockerfile."""

    repository: str
    path: str
    text: str


def git(repository: str, *args: str) -> bytes:
    """Return what git prints."""
    return subprocess.run(["git", "-C", repository, *args], check=True, capture_output=True).stdout


def find_files(repository: str) -> list[File]:
    """Return the Dockerfiles of a repository's HEAD, by their names."""
    found = []
    for name in git(repository, "ls-tree", "-r", "-z", "--name-only", "HEAD").decode().split("\0"):
        base = name.rpartition("/")[2].lower()
        if (
            base in ("dockerfile", "containerfile")
            or base.startswith("dockerfile.")
            or base.endswith(".dockerfile")
        ):
            if base.endswith((".dockerignore", ".md", ".j2", ".tmpl", ".go", ".js", ".py")):
                continue
            text = git(repository, "show", f"HEAD:{name}").decode("utf-8", "surrogateescape")
            found.append(File(repository=repository, path=name, text=text))
    return found


def stages_of(file: File) -> tuple[Stage, ...]:
    """Return the stages of a file.

    Raises:
        DockerfileError: A build of it would be refused.
    """
    dockerfile = parse_dockerfile(file.text, file=file.path)
    return plan_build(dockerfile, platform="linux/amd64", build_platform="linux/amd64").stages


def main() -> None:
    files = [file for repository in sys.argv[1:] for file in find_files(repository)]
    count: Counter[str] = Counter()
    families: Counter[str] = Counter()
    for file in files:
        try:
            stages = stages_of(file)
        except DockerfileError as error:
            count["refused"] += 1
            print(f"refused: {file.repository} {file.path}: {error}")
            continue
        if read_here(file.text) != read_as_buildkit(file.text):
            count["otherwise"] += 1
            print(f"otherwise than BuildKit: {file.repository} {file.path}")
        bases = [each.base for each in stages if each.base_stage is None and each.base.lower() != SCRATCH]
        count["stages"] += len(stages)
        count["from an image"] += len(bases)
        count["with a stand-in"] += sum(find_recipe(base) is not None for base in bases)
        families.update(base.partition("@")[0].partition(":")[0] for base in bases if why_no_recipe(base))
        if bases and all(find_recipe(base) for base in bases):
            count["files whose every base has a stand-in"] += 1
    print(f"{len(files)} files of {len({file.repository for file in files})} repositories")
    for name, number in count.items():
        print(f"{number:5} {name}")
    print("without:", ", ".join(f"{name} {number}" for name, number in families.most_common(12)))


if __name__ == "__main__":
    main()
