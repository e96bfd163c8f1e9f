"""Several tools, one problem, one finding."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pipeline.scan.finding import InFile, InRequest, Severity, Witness
from pipeline.scan.merge import canonical, merge
from tests.unit.scan.making import finding, package

if TYPE_CHECKING:
    from pipeline.scan.finding import Finding, Level


def test_the_same_fingerprint_is_one_finding_with_all_witnesses() -> None:
    """The severity is the worst, two tools make it sure, the first tool names it."""
    ruff = finding(level="medium", cwe=(327,), fix="", aliases=())
    bandit = finding(level="high", tool="bandit", cwe=(328,), fix="use SHA-256", title="other words")

    [one] = merge([ruff, bandit])

    assert one == replace(
        ruff,
        severity=bandit.severity,
        confidence="high",
        cwe=(327, 328),
        fix="use SHA-256",
        witnesses=(*ruff.witnesses, *bandit.witnesses),
    )


def test_the_same_weakness_on_the_same_lines_seen_by_another_tool_is_one_finding() -> None:
    """Tools name rules differently; the CWE and the lines say that it is one problem."""
    ruff = finding(id="1" * 32, cwe=(89,), place=InFile(path="app.py", line=4, end_line=6))
    semgrep = finding(id="2" * 32, rule="sql", tool="semgrep", cwe=(89,), place=InFile(path="app.py", line=5))

    [one] = merge([ruff, semgrep])

    assert one.id == ruff.id
    assert [witness.tool for witness in one.witnesses] == ["ruff", "semgrep"]


def test_other_lines_other_weaknesses_or_the_same_tool_stay_apart() -> None:
    """Two findings of one tool on one line are two problems."""
    first = finding(id="1" * 32, cwe=(89,), place=InFile(path="app.py", line=4))
    others = [
        finding(id="2" * 32, tool="semgrep", cwe=(89,), place=InFile(path="app.py", line=5)),
        finding(id="3" * 32, tool="semgrep", cwe=(79,), place=InFile(path="app.py", line=4)),
        finding(id="4" * 32, rule="S2", cwe=(89,), place=InFile(path="app.py", line=4)),
        finding(id="5" * 32, tool="semgrep", cwe=(89,), place=InFile(path="other.py", line=4)),
    ]

    assert {one.id for one in merge([first, *others])} == {first.id, *(one.id for one in others)}


def request(parameter: str, *, route: str = "/a", method: str = "GET") -> InRequest:
    return InRequest(method=method, url="http://service/a", route=route, parameter=parameter)


def test_the_same_weakness_of_the_same_input_of_a_route_is_one_finding() -> None:
    """A tool that does not say which input means the one that another names."""
    passive = finding(id="1" * 32, kind="dast", tool="passive", cwe=(89,), place=request("q"))
    wapiti = finding(id="2" * 32, kind="dast", rule="sql", tool="wapiti", cwe=(89,), place=request("q"))
    other = finding(id="3" * 32, kind="dast", rule="error", tool="schemathesis", cwe=(89,), place=request(""))

    for order in ([passive, wapiti, other], [other, wapiti, passive]):
        [one] = merge(order)

        assert (one.id, one.where, one.confidence) == (order[0].id, "GET /a (q)", "high")
        assert [witness.tool for witness in one.witnesses] == [each.witnesses[0].tool for each in order]


def test_another_input_route_method_or_weakness_stays_apart() -> None:
    first = finding(id="1" * 32, kind="dast", tool="passive", cwe=(89,), place=request("q"))
    others = [
        finding(id="2" * 32, kind="dast", tool="wapiti", cwe=(89,), place=request("p")),
        finding(id="3" * 32, kind="dast", tool="wapiti", cwe=(89,), place=request("q", route="/b")),
        finding(id="4" * 32, kind="dast", tool="wapiti", cwe=(89,), place=request("q", method="POST")),
        finding(id="5" * 32, kind="dast", tool="wapiti", cwe=(79,), place=request("q")),
        finding(id="6" * 32, kind="dast", tool="passive", rule="S2", cwe=(89,), place=request("q")),
        finding(id="7" * 32, kind="dast", tool="wapiti", cwe=(), place=request("q")),
    ]

    assert {one.id for one in merge([first, *others])} == {first.id, *(one.id for one in others)}


def test_an_advisory_is_one_whatever_source_names_it() -> None:
    """Its names join transitively; the best known one names it, all fixed versions stay."""

    def advisory(tool: str, rule: str, alias: str, fixed: str) -> Finding:
        place = package(fixed=(fixed,))
        return finding(kind="vulnerability", rule=rule, aliases=(alias,), place=place, tool=tool)

    osv = advisory("osv", "GHSA-1", "CVE-2024-1", "2.11")
    pypa = advisory("pypa", "PYSEC-7", "GHSA-1", "2.11.3")
    trivy = finding(kind="vulnerability", rule="CVE-2024-1", level="critical", place=package(), tool="trivy")

    [one] = merge([osv, pypa, trivy])

    assert (one.rule.id, one.aliases) == ("CVE-2024-1", ("GHSA-1", "PYSEC-7"))
    assert one.place == package(fixed=("2.11", "2.11.3"))
    assert one.severity == Severity(level="critical", basis="the test")
    assert {witness.tool for witness in one.witnesses} == {"osv", "pypa", "trivy"}


def test_the_same_advisory_of_other_packages_stays_apart() -> None:
    """Another version, and another place of the same package, are problems of their own."""
    places = [package(), package("django"), package(version="2.9"), package(path="image")]
    found = [finding(kind="vulnerability", rule="CVE-1", place=place) for place in places]

    assert len(merge(found)) == 4


def test_a_secret_in_two_places_is_told_twice() -> None:
    """The identity is the value's; each place has to be cleaned."""
    found = [finding(kind="secret", place=InFile(path=path, line=1)) for path in ("a.env", "b.env")]

    assert [one.where for one in merge(found)] == ["a.env:1", "b.env:1"]


def test_the_worst_come_first() -> None:
    levels: tuple[Level, ...] = ("low", "critical", "unknown", "high")
    found = [finding(id=str(index) * 32, level=level) for index, level in enumerate(levels)]

    assert [one.severity.level for one in merge(found)] == ["critical", "high", "low", "unknown"]


def test_names_of_advisories_have_an_order() -> None:
    assert canonical(["PYSEC-1", "GHSA-2", "CVE-2024-2", "CVE-2024-1", "X-1"]) == "CVE-2024-1"
    assert canonical(["X-1", "PYSEC-1"]) == "PYSEC-1"


def test_equal_witnesses_are_told_once() -> None:
    [one] = merge([finding(), finding()])

    assert one.witnesses == (Witness(tool="ruff", version="1", rule="S1"),)
