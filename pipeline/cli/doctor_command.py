"""`pipeline doctor`: checks of this machine, each finding with what mends it."""

from __future__ import annotations

import dataclasses

import click

from pipeline.cli.options import directory_option, json_option
from pipeline.cli.output import painted, write, write_json
from pipeline.cli.project import find_root
from pipeline.config import load_config
from pipeline.errors import EXIT_FAILED, EXIT_OK

STYLES = {"good": "passed", "note": "skipped", "bad": "failed"}


@click.command()
@json_option
@directory_option
def command(as_json: bool, directory: str | None) -> int:
    """Check this machine and say how to mend what is found.

    Ends with 1 when something keeps the embedded engine or the project from working.
    """
    from pipeline.cli.checks import Machine, check_all
    from pipeline.connect import engine_settings

    root = find_root(directory)
    config = load_config(root)
    findings = check_all(Machine(root=root, config=config, store=engine_settings(config).store_path()))
    if as_json:
        write_json([dataclasses.asdict(finding) for finding in findings])
    else:
        width = max(len(finding.check) for finding in findings)
        for finding in findings:
            state = painted(f"{finding.state:4}", STYLES[finding.state])
            write(f"{state}  {finding.check:{width}}  {finding.what}")
            if finding.fix:
                write(f"{'':6}{'':{width}}  mend: {finding.fix}")
    return EXIT_FAILED if any(finding.state == "bad" for finding in findings) else EXIT_OK
