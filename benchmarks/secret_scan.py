"""What the search for secrets finds, how fast, beside detect-secrets and gitleaks where they are installed.

    python benchmarks/secret_scan.py [--first 90001] [--seeds 10] [--missed] [--tree FOLDER]

Recall and precision are those of projects drawn by lot, of two kinds that know nothing of each other: lines
of many files (`tests/unit/scan/secrets/corpus.py`) and whole files (`tests/unit/scan/secrets/whole`). A hit
counts on the line of a secret or the line above, anything else that is told is wrong; `--missed` lists what
this engine missed and told wrongly. `--tree` measures time and memory on a tree, in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent.parent))

from pipeline.scan.secrets.engine import shared_engine
from pipeline.scan.secrets.tree import scan_tree
from tests.unit.scan.secrets.corpus import make_corpus
from tests.unit.scan.secrets.whole.corpus import make_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.unit.scan.secrets.kinds import Corpus

Lines = dict[str, set[int]]
FIRST_SEED = 90_001  # nobody looked at these
CORPORA: dict[str, Callable[[int], Corpus]] = {"lines": make_corpus, "whole files": make_whole}


def ours(files: Mapping[str, str], _folder: Path) -> Lines:
    return {path: {hit.line for hit in shared_engine().find(text, path)} for path, text in files.items()}


def detect_secrets(*plugins_off: str) -> Callable[[Mapping[str, str], Path], Lines]:
    def run(_files: Mapping[str, str], folder: Path) -> Lines:
        off = [part for name in plugins_off for part in ("--disable-plugin", name)]
        argv = ["detect-secrets", "scan", "--all-files", "--no-verify", *off, "."]
        told = json.loads(subprocess.run(argv, cwd=folder, capture_output=True, check=True).stdout)
        return {path: {one["line_number"] for one in found} for path, found in told["results"].items()}

    return run


def gitleaks(_files: Mapping[str, str], folder: Path) -> Lines:
    report = folder.parent / "report.json"
    argv = ["gitleaks", "dir", str(folder), "--exit-code", "0", "--no-banner", "--redact"]
    subprocess.run([*argv, "--report-path", str(report)], capture_output=True, check=True)
    lines: Lines = {}
    for one in json.loads(report.read_text()):
        lines.setdefault(os.path.relpath(one["File"], folder), set()).add(one["StartLine"])
    return lines


def judge(corpus: Corpus, lines: Lines) -> tuple[int, int, int]:
    """Found, planted, and told wrongly."""
    found = sum(
        not {mark.line, mark.line - 1}.isdisjoint(lines.get(mark.path, ())) for mark in corpus.secrets
    )
    near = {(mark.path, mark.line - up) for mark in corpus.secrets for up in (0, 1)}
    wrong = sum((path, line) not in near for path, told in lines.items() for line in told)
    return found, len(corpus.secrets), wrong


def compare(first: int, seeds: int) -> None:
    tools: dict[str, Callable[[Mapping[str, str], Path], Lines]] = {"this engine": ours}
    if shutil.which("detect-secrets"):
        tools["detect-secrets"] = detect_secrets()
        entropy = ("HexHighEntropyString", "Base64HighEntropyString")
        tools["detect-secrets, no entropy plug-ins"] = detect_secrets(*entropy)
    if shutil.which("gitleaks"):
        tools["gitleaks"] = gitleaks
    print("| corpus | tool | recall, least | recall, mean | precision, least | precision, mean | s each |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for kind, make in CORPORA.items():
        for name, tool in tools.items():
            cells = run(tool, make, range(first, first + seeds))
            print(f"| {kind} | {name} | {' | '.join(cells)} |")


def run(
    tool: Callable[[Mapping[str, str], Path], Lines], make: Callable[[int], Corpus], seeds: range
) -> list[str]:
    """Least and mean recall, least and mean precision, seconds for a project."""
    rows, began = [], time.perf_counter()
    for seed in seeds:
        corpus = make(seed)
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "project"
            for path, text in corpus.files.items():
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_text(text, encoding="utf-8")
            rows.append(judge(corpus, tool(corpus.files, folder)))
    recalls = [found / planted for found, planted, _ in rows]
    precisions = [found / (found + wrong) if found else 0.0 for found, _, wrong in rows]
    took = (time.perf_counter() - began) / len(seeds)
    means = sum(recalls) / len(seeds), sum(precisions) / len(seeds)
    return [*(f"{one:.3f}" for one in (min(recalls), means[0], min(precisions), means[1])), f"{took:.2f}"]


def tell_missed(first: int, seeds: int) -> None:
    """Each secret that was missed and each report that was wrong, with its line."""
    for make in CORPORA.values():
        for seed in range(first, first + seeds):
            corpus = make(seed)
            lines = ours(corpus.files, Path())
            near = {(mark.path, mark.line - up) for mark in corpus.secrets for up in (0, 1)}
            told = {(path, line) for path, found in lines.items() for line in found}
            for mark in corpus.secrets:
                if told.isdisjoint({(mark.path, mark.line), (mark.path, mark.line - 1)}):
                    print(f"missed {seed} {mark.path}:{mark.line} {_line(corpus, mark.path, mark.line)}")
            for path, line in sorted(told - near):
                print(f"wrong {seed} {path}:{line} {_line(corpus, path, line)}")


def _line(corpus: Corpus, path: str, line: int) -> str:
    return corpus.files[path].splitlines()[line - 1].strip()[:120]


def measure(tree: Path) -> None:
    """Time and memory of one tree, in this process."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=tree, capture_output=True, check=False).stdout
    names = [name for name in os.fsdecode(listed).split("\0") if name]
    if not names:
        names = [str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file()]
    size = sum(os.lstat(tree / name).st_size for name in names if (tree / name).exists())
    began, cpu = time.perf_counter(), time.process_time()
    found, expected, missed = scan_tree(tree, names)
    took, used = time.perf_counter() - began, time.process_time() - cpu
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{expected} files, {size / 1e6:.1f} MB, {len(missed)} missed: {len(found)} hits")
    print(f"{took:.2f} s, {used:.2f} s of CPU, {memory:.0f} MB resident")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--first", type=int, default=FIRST_SEED)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--missed", action="store_true")
    parser.add_argument("--tree", type=Path)
    arguments = parser.parse_args()
    if arguments.tree is not None:
        measure(arguments.tree)
    elif arguments.missed:
        tell_missed(arguments.first, arguments.seeds)
    else:
        compare(arguments.first, arguments.seeds)
