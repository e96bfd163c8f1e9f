"""What the search for secrets finds, how fast, beside detect-secrets and gitleaks where they are installed.

    python benchmarks/secret_scan.py [--seeds 10] [--tree FOLDER]

Recall and precision are those of projects drawn by lot (`tests/unit/scan/secrets/corpus.py`): a hit counts on
the line of a secret or the line above, anything else that is told is wrong. `--tree` measures time and memory
on a real tree, in a process of its own.
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

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.unit.scan.secrets.kinds import Corpus

Lines = dict[str, set[int]]
FIRST_SEED = 90_001  # nobody looked at these


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


def compare(seeds: int) -> None:
    tools: dict[str, Callable[[Mapping[str, str], Path], Lines]] = {"this engine": ours}
    if shutil.which("detect-secrets"):
        tools["detect-secrets"] = detect_secrets()
        entropy = ("HexHighEntropyString", "Base64HighEntropyString")
        tools["detect-secrets, no entropy plug-ins"] = detect_secrets(*entropy)
    if shutil.which("gitleaks"):
        tools["gitleaks"] = gitleaks
    print("| tool | recall, least | recall, mean | precision, least | precision, mean | s for a project |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, tool in tools.items():
        rows, began = [], time.perf_counter()
        for seed in range(FIRST_SEED, FIRST_SEED + seeds):
            corpus = make_corpus(seed)
            with tempfile.TemporaryDirectory() as place:
                folder = Path(place) / "project"
                for path, text in corpus.files.items():
                    (folder / path).parent.mkdir(parents=True, exist_ok=True)
                    (folder / path).write_text(text, encoding="utf-8")
                rows.append(judge(corpus, tool(corpus.files, folder)))
        recalls = [found / planted for found, planted, _ in rows]
        precisions = [found / (found + wrong) if found else 0.0 for found, _, wrong in rows]
        took = (time.perf_counter() - began) / seeds
        means = sum(recalls) / seeds, sum(precisions) / seeds
        cells = [f"{one:.3f}" for one in (min(recalls), means[0], min(precisions), means[1])]
        print(f"| {name} | {' | '.join(cells)} | {took:.2f} |")


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
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--tree", type=Path)
    arguments = parser.parse_args()
    if arguments.tree is not None:
        measure(arguments.tree)
    else:
        compare(arguments.seeds)
