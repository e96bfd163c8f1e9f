"""What the stages return: frozen values that can be written to disk and read back."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.graph.context import Artifact  # noqa: TC001 - read when a result is loaded


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The files a run is about: the tracked ones, as they are in the working tree."""

    commit: str  # 40 hex digits; "" outside git
    dirty: bool  # tracked files differ from the commit
    digest: str  # over every tracked file
    files: int
    version: str = ""  # as `git describe` tells it, without a leading `v`; "" without tags
    submodules: tuple[str, ...] = ()
    lfs_pointers: tuple[str, ...] = ()  # files whose content was not fetched


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A container, by the id the engine keeps it under, and the stage that can describe it again."""

    id: str
    stage: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Deps:
    """A container with a Python, the project's dependencies and the test tools in `/venv`."""

    container: Held
    image: str  # the base image, as named
    python: str  # such as "3.11.2"
    installer: str
    packages: int
    complete: bool  # False: more is only known when the project itself is installed


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheel:
    """The built distribution."""

    name: str
    version: str
    wheel: Artifact | None
    sdist: Artifact | None
    differences: tuple[str, ...] | None = None  # of a second build; None: it was not made


@dataclass(frozen=True, slots=True, kw_only=True)
class TestReport:
    """What the tests said."""

    __test__ = False  # not a test class, whatever pytest thinks of its name

    tests: int
    skipped: int
    duration_s: float
    junit: Artifact | None
    coverage: Artifact | None = None
    line_rate: float | None = None  # 0 to 1
    flaky: tuple[str, ...] = ()  # tests that were both bad and good on the same inputs


@dataclass(frozen=True, slots=True, kw_only=True)
class Covered:
    """How many lines the tests of all stages ran; of the changed ones None where nobody asked."""

    lines: int
    covered: int
    changed_lines: int | None
    changed_covered: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One image: the digest of its manifest, and the archive that holds it."""

    name: str
    dockerfile: str
    platform: str
    digest: str
    size_bytes: int
    archive: Artifact


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """Every image the project builds."""

    images: tuple[Image, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PushedImage:
    """One image where it can be deployed from; `reference` holds its digest."""

    name: str
    reference: str
    digest: str
    tags: tuple[str, ...] = ()  # (): there is no registry, and it stays in its archive
    was_there: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PushedImages:
    """Every image of a run, as it is delivered."""

    images: tuple[PushedImage, ...]
    commit: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """How a stage has brought a release to an environment."""

    environment: str
    deployment: str
    release: str
    outcome: str  # "succeeded" or "already there"
    images: dict[str, str]  # service to digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What was seen of a release that runs."""

    environment: str
    release: str
    checks: tuple[str, ...]
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scanned:
    """One scanner: how it stands, and how much it looked at."""

    name: str
    state: str  # "complete", or why not: as in `pipeline.scan.scanner.State`
    seen: int
    expected: int
    unit: str  # "files", "packages", ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What the scanners of a stage found, and what that means: never anything that blocks."""

    result: str  # "pass" or "warn"
    counts: dict[str, int]  # findings by what they do: "warn", "note", "waived", "known"
    scanners: tuple[Scanned, ...]
    findings: Artifact  # findings.json
    sarif: Artifact


@dataclass(frozen=True, slots=True, kw_only=True)
class Performance:
    """What a load test said: never anything that breaks a critical limit."""

    verdict: str  # "pass" or "warn"
    workloads: tuple[str, ...]  # "open", "closed"
    requests: int
    error_share: float  # 0 to 1, of the worst workload
    statistic: str  # "p95", ...
    response_s: float  # that of all requests of the first workload
    figures: Artifact  # performance.csv


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """Which of the project's own checks were made, all of them good, and what the linters found beside."""

    checks: tuple[str, ...]
    findings: Findings | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """What is delivered, told by digests, and what is in it."""

    checksums: Artifact  # SHA256SUMS
    sbom: Artifact  # sbom.cdx.json
    components: int  # packages in it
    findings: Findings


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """A version that went out."""

    tag: str
    version: str
    commit: str
    plan: str  # digest
    steps: dict[str, str]  # "done", or "found" where it was done before
    notes: Artifact
    attestation: Artifact  # provenance.intoto.json
