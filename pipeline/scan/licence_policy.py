"""Which licences a team takes: each package's expression against patterns of what is allowed and denied."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

from pipeline.scan.finding import Finding, InPackage, Level, Rule, Severity, Witness

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pipeline.scan.packages.package import Package

OF_SYSTEMS: Final = frozenset({"deb", "apk", "rpm"})  # types of package URLs of what a distribution brings


def judge_licences(
    packages: Iterable[Package], *, allowed: Sequence[str], denied: Sequence[str], version: str
) -> list[Finding]:
    """A finding for each package whose licence is denied, not allowed, or not known.

    Args:
        allowed: Patterns such as `MIT` or `BSD-*`; empty allows what is not denied.
        denied: Patterns; of alternatives (`A OR B`) one that is not denied is enough.
        version: Of this program, which is the witness.
    """
    found = []
    for one in packages:
        if one.private:
            continue  # the team's own
        problem = _problem(one.licence, allowed, denied)
        if problem is not None:
            found.append(_finding(one, *problem, version))
    return found


def _problem(licence: str, allowed: Sequence[str], denied: Sequence[str]) -> tuple[str, Level, str] | None:
    """Rule, level and sentence for a licence that is not simply good."""
    if not licence:
        level: Level = "medium" if allowed else "low"
        return "licence-unknown", level, "its metadata tells no licence"
    tree = _parsed(licence)
    if not _holds(tree, lambda key: not _matches(key, denied)):
        return "licence-denied", "high", f"its licence is {licence}, which the policy denies"
    if allowed and not _holds(tree, lambda key: _matches(key, allowed)):
        return "licence-not-allowed", "high", f"its licence is {licence}, which the policy does not allow"
    return None


def _matches(key: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(key, pattern) for pattern in patterns)


def _parsed(licence: str) -> Any:
    from license_expression import ExpressionError, Licensing

    try:
        return Licensing().parse(licence)
    except ExpressionError:
        return licence  # a text that is no expression is a name


def _holds(tree: Any, is_good: Any) -> bool:
    """Whether an expression can be taken: of alternatives one, of what goes together all."""
    from license_expression import AND, OR

    if isinstance(tree, OR):
        return any(_holds(one, is_good) for one in tree.args)
    if isinstance(tree, AND):
        return all(_holds(one, is_good) for one in tree.args)
    return bool(is_good(str(tree)))


def _finding(package: Package, rule: str, level: Level, problem: str, version: str) -> Finding:
    place = InPackage(
        purl=package.purl,
        name=package.name,
        version=package.version,
        ecosystem=package.ecosystem,
        path=package.path,
        layer=package.layer,
        direct=package.direct,
        dev=package.dev,
        imported=package.imported,
    )
    return Finding(
        id="",
        kind="licence",
        rule=Rule(id=rule, name=rule),
        title=problem,
        message=f"{package.name} {package.version}: {problem}",
        severity=Severity(level=level, basis="the licence policy"),
        place=place,
        confidence="high" if package.licence else "medium",
        fix="use another package, or allow the licence in [tool.pipeline.artifacts]",
        witnesses=(Witness(tool="licences", version=version, rule=rule),),
    )
