"""The pytest plugin in the tests' container: picks the tests to run, and notes what became of each.

It needs nothing but pytest and a Python from 3.7 on. What to run stands in a file; each process notes into a
file of its own, line by line: what is known survives an interpreter that crashes.
"""

from __future__ import annotations

import faulthandler
import json
import os
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

NODE = "pipeline_node"  # properties of a case in pytest's own report, as `notes` reads them
PLACE = "failed_at"
LONGEST_OUTPUT = 1 << 18  # characters of a test's standard output, error and log each
HANGS_AFTER_S = 300.0  # then what every thread is at is written to the log, once a test

SELECT = "PIPELINE_SELECT"  # the variable that says where it stands what to run

_STDERR = os.dup(2)  # the real one: pytest puts another in its place while it captures


def share_out(tests: Sequence[str], known_s: dict[str, float], count: int) -> list[list[str]]:
    """Split tests into `count` shares of about equal duration: the longest group first, to the idlest share.

    A group is a file, whose fixtures are then made once; a file longer than a fair share is split into its
    tests. A test of unknown duration counts as the median of those that are known. The result depends on
    nothing but what is given, whatever the order of the tests.
    """
    ordered = sorted(set(tests))
    times = sorted(known_s[test] for test in ordered if test in known_s)
    usual = times[len(times) // 2] if times else 1.0
    # Nothing costs nothing: tests that took no time are spread as well.
    seconds = {test: max(known_s.get(test, usual), 0.001) for test in ordered}
    files: dict[str, list[str]] = {}
    for test in ordered:
        files.setdefault(test.partition("::")[0], []).append(test)
    fair = sum(seconds.values()) / count
    groups: list[tuple[float, list[str]]] = []
    for members in files.values():
        total = sum(seconds[test] for test in members)
        groups += [(total, members)] if total <= fair else [(seconds[test], [test]) for test in members]
    shares: list[list[str]] = [[] for _ in range(count)]
    loads = [0.0] * count
    for total, members in sorted(groups, key=lambda group: (-group[0], group[1])):
        idlest = loads.index(min(loads))
        loads[idlest] += total
        shares[idlest] += members
    return shares


def wanted(tests: Sequence[str], select: dict[str, Any]) -> list[str]:
    """Say which of the tests to run: those named, or one share of all."""
    if select.get("only") is not None:
        named = set(select["only"])
        return [test for test in tests if test in named]
    count = int(select.get("of", 1))
    if count == 1:
        return list(tests)
    mine = set(share_out(tests, select.get("known_s", {}), count)[int(select["share"])])
    return [test for test in tests if test in mine]


class Watch:
    """Notes into one file; a worker of pytest-xdist only what it found, the controller the rest."""

    def __init__(self, folder: str, is_worker: bool) -> None:
        os.makedirs(folder, exist_ok=True)
        path = os.path.join(folder, f"{os.getpid()}.jsonl")
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._is_worker = is_worker
        self._seconds: dict[str, float] = {}
        self._bad: dict[str, str] = {}
        self._again: set[str] = set()

    def note(self, **what: Any) -> None:
        """Write one line, at once."""
        os.write(self._file, (json.dumps(what) + "\n").encode("ascii"))

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(self, config: Any, items: list[Any]) -> Any:
        """Pick the tests after everybody else has: what others deselect was never to run."""
        yield
        with open(os.environ[SELECT], encoding="utf-8") as stream:
            select = json.load(stream)
        found = [item.nodeid for item in items]
        mine = set(wanted(found, select))
        self.note(found=found, chosen=sorted(mine))
        others = [item for item in items if item.nodeid not in mine]
        if others:
            items[:] = [item for item in items if item.nodeid in mine]
            config.hook.pytest_deselected(items=others)
        for item in items:
            item.user_properties.append((NODE, json.dumps(item.nodeid)))

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: Any) -> Any:
        """Have every thread's place shown when a test takes very long, unless the project sees to that."""
        try:
            hangs = not float(item.config.getini("faulthandler_timeout") or 0.0)
        except ValueError:  # that plugin of pytest's is switched off
            hangs = False
        if hangs:
            faulthandler.dump_traceback_later(HANGS_AFTER_S, file=_STDERR)
        yield
        if hangs:
            faulthandler.cancel_dump_traceback_later()

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item: Any, call: Any) -> Any:
        """Note where in the project a test failed, and cut what it wrote to what somebody may read."""
        place = _place(item, call.excinfo) if call.excinfo is not None else None
        if place is not None:  # before the report is made, which takes the properties
            item.user_properties.append((PLACE, place))
        report = (yield).get_result()
        report.sections = [(name, _end_of(text)) for name, text in report.sections]

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Note that a test begins."""
        if not self._is_worker:
            self.note(begun=nodeid)

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Add up what is said of a test."""
        self._seconds[report.nodeid] = self._seconds.get(report.nodeid, 0.0) + report.duration
        if report.outcome == "rerun":  # of pytest-rerunfailures
            self._again.add(report.nodeid)
            self._bad.pop(report.nodeid, None)
        elif report.failed:
            self._bad.setdefault(report.nodeid, "failed")
        elif report.skipped and not hasattr(report, "wasxfail"):
            self._bad.setdefault(report.nodeid, "skipped")

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Note what became of a test."""
        if self._is_worker:
            return
        seconds = self._seconds.pop(nodeid, 0.0)
        outcome = self._bad.pop(nodeid, "passed")
        self.note(ended=nodeid, outcome=outcome, s=round(seconds, 4), again=nodeid in self._again)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, exitstatus: Any) -> None:
        """Note that nothing cut the run short."""
        if not self._is_worker:
            self.note(done=int(exitstatus))


def _end_of(text: str) -> str:
    """The end of a long text: hundreds of megabytes, with every byte escaped, take minutes to report."""
    left_out = len(text) - LONGEST_OUTPUT
    return f"[{left_out} characters left out]\n{text[-LONGEST_OUTPUT:]}" if left_out > 0 else text


def _place(item: Any, excinfo: Any) -> str | None:
    """The last place in the project's own files that an exception went through: `path:line`."""
    root = str(getattr(item.config, "rootpath", None) or item.config.rootdir) + os.sep
    for entry in reversed(list(excinfo.traceback)):
        path = str(entry.path)
        if path.startswith(root) and "site-packages" not in path:
            return f"{path[len(root) :]}:{entry.lineno + 1}"
    return None


def pytest_configure(config: Any) -> None:
    """Watch this session, not those that the tests start themselves."""
    with open(os.environ[SELECT], encoding="utf-8") as stream:
        folder = json.load(stream)["notes"]
    is_worker = hasattr(config, "workerinput")
    if not is_worker and os.getpgrp() != os.getpid():
        os.setpgid(0, 0)  # a test that kills its process group must not take what waits for us with it
    config.pluginmanager.register(Watch(folder, is_worker), "pipeline-watch-notes")
