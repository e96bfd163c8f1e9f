"""`pipeline graph`: what waits for what, as text, Mermaid, Graphviz or JSON, coloured by a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from pipeline.cli.options import directory_option, json_option
from pipeline.cli.output import coloured, write, write_json
from pipeline.cli.project import open_project

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.graph.plan import Graph
    from pipeline.graph.stage import AnyStage

# Verdict of a stage in a run: the colour on a terminal, and the fill in drawings (readable under black text).
TERMINAL: Final = {
    "passed": "green",
    "cached": "cyan",
    "failed": "red",
    "error": "red",
    "timeout": "red",
    "skipped": "yellow",
    "cancelled": "yellow",
}
FILL: Final = {
    "passed": "#b7e1b0",
    "cached": "#b5dfea",
    "failed": "#f4b6b0",
    "error": "#f4b6b0",
    "timeout": "#f4b6b0",
    "skipped": "#f3e3a6",
    "cancelled": "#f3e3a6",
}


@click.command()
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "mermaid", "dot", "json"]),
    default="text",
    help="How to draw it.",
)
@click.option(
    "--run",
    "run_id",
    metavar="[RUN]",
    is_flag=False,
    flag_value="last",
    help="Colour it by RUN (the last one).",
)
@json_option
@directory_option
def command(form: str, run_id: str | None, as_json: bool, directory: str | None) -> None:
    """Draw the graph of stages."""
    project = open_project(directory)
    verdicts: dict[str, str] = {}
    if run_id is not None:
        from pipeline.cli.past import open_run

        record = open_run(project.root, run_id).record
        verdicts = {name: one.verdict for name, one in record.stages.items()}
    if as_json or form == "json":
        write_json(as_json_graph(project.graph, verdicts))
    else:
        draw = {"text": as_text, "mermaid": as_mermaid, "dot": as_dot}[form]
        write(draw(project.graph, verdicts))


def as_text(graph: Graph, verdicts: Mapping[str, str]) -> str:
    """Draw a tree: each stage once, under the latest of those it waits for; the others stand beside it."""
    position = {name: index for index, name in enumerate(graph.order)}
    parent = {name: max(graph.links[name].all, key=position.__getitem__, default="") for name in graph.order}
    below: dict[str, list[str]] = {}
    for name in graph.order:
        below.setdefault(parent[name], []).append(name)
    lines: list[str] = []
    # A stack and not recursion: a chain may be longer than Python's calls may be deep.
    stack = [(name, "", "") for name in reversed(below.get("", []))]
    while stack:
        name, lead, branch = stack.pop()
        others = [other for other in graph.links[name].all if other != parent[name]]
        lines.append(lead + branch + _label(graph.stages[name], others, verdicts.get(name, "")))
        lead += {"": "", "├─ ": "│  ", "└─ ": "   "}[branch]
        children = below.get(name, [])
        stack += [(child, lead, "└─ " if child == children[-1] else "├─ ") for child in reversed(children)]
    return "\n".join(lines)


def _label(one: AnyStage, others: Sequence[str], verdict: str) -> str:
    """One line of the tree without its lead."""
    parts = [
        coloured(one.name, TERMINAL.get(verdict), bold=not verdict),
        f"(after {', '.join(others)})" if others else "",
        "effect" if one.effect else "",
        verdict,
    ]
    return "  ".join(part for part in parts if part)


def as_mermaid(graph: Graph, verdicts: Mapping[str, str]) -> str:
    """Draw for Mermaid; dotted arrows order without data."""
    lines = ["flowchart LR"]
    for name in graph.order:
        shape = ("[[", "]]") if graph.stages[name].effect else ("[", "]")
        kind = f":::{verdicts[name]}" if verdicts.get(name) in FILL else ""
        lines.append(f'  {_mermaid_id(name)}{shape[0]}"{name}"{shape[1]}{kind}')
    for source, target, kind in _edges(graph):
        arrow = "-.->" if kind == "after" else "-->"
        lines.append(f"  {_mermaid_id(source)} {arrow} {_mermaid_id(target)}")
    used = [verdict for verdict in FILL if verdict in verdicts.values()]
    lines += [f"  classDef {verdict} fill:{FILL[verdict]},stroke:#555,color:#000" for verdict in used]
    return "\n".join(lines)


def _mermaid_id(name: str) -> str:
    # `end` and others are words of Mermaid's own; a prefix keeps every stage name usable.
    return "s_" + name.replace("-", "_")


def as_dot(graph: Graph, verdicts: Mapping[str, str]) -> str:
    """Draw for Graphviz; dashed arrows order without data."""
    lines = ["digraph pipeline {", "  rankdir=LR;", "  node [shape=box, style=filled, fillcolor=white];"]
    for name in graph.order:
        fill = f'fillcolor="{FILL[verdicts[name]]}"' if verdicts.get(name) in FILL else ""
        shape = "shape=box3d" if graph.stages[name].effect else ""
        attributes = ", ".join(part for part in (shape, fill) if part)
        lines.append(f'  "{name}"' + (f" [{attributes}]" if attributes else "") + ";")
    for source, target, kind in _edges(graph):
        lines.append(f'  "{source}" -> "{target}"' + (" [style=dashed]" if kind == "after" else "") + ";")
    return "\n".join([*lines, "}"])


def as_json_graph(graph: Graph, verdicts: Mapping[str, str]) -> dict[str, Any]:
    """The graph as nodes and edges; `verdict` is null without a run."""
    return {
        "stages": [
            {"name": name, "effect": graph.stages[name].effect, "verdict": verdicts.get(name)}
            for name in graph.order
        ],
        "edges": [{"from": source, "to": target, "kind": kind} for source, target, kind in _edges(graph)],
    }


def _edges(graph: Graph) -> list[tuple[str, str, str]]:
    """Each arrow once: from, to, and `needs`, `optional` or `after`."""
    edges: list[tuple[str, str, str]] = []
    for name in graph.order:
        links = graph.links[name]
        kinds = {
            **dict.fromkeys(links.after, "after"),
            **dict.fromkeys(links.optional, "optional"),
            **dict.fromkeys(links.needs, "needs"),
        }
        edges += [(other, name, kind) for other, kind in kinds.items()]
    return edges
