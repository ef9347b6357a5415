"""From the JSON of runs: Markdown tables, PNG plots, one self-contained page."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from bench.tables import Table, provenance, tables
from clnn.errors import ArgumentError

_ORDER = ("models", "layers", "gemm", "memory", "memory-use", "start", "overhead")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``python -m bench report``."""
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="results in JSON")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write one page with tables and plots")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables as Markdown (default: print them)")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="write the plots as PNG")


def load(files: list[Path]) -> list[dict]:
    """The results, in the order in which they are shown; other JSON that lies among them is passed over, with a message.

    Raises:
        ArgumentError: for a file that cannot be read, or if no result is left.
    """
    found = []
    for path in files:
        try:
            result = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise ArgumentError("cannot read the result", where=str(path), got=error) from error
        if not isinstance(result, dict) or "suite" not in result or not ("cases" in result or "rows" in result):
            print(f"passed over {path}: not a result of a suite of bench", file=sys.stderr)
            continue
        found.append(result)
    if not found:
        raise ArgumentError("there is nothing to report", where="bench report", got=", ".join(map(str, files)),
                            expected="results of `python -m bench SUITE`, which have a suite, and cases or rows")
    order = {suite: number for number, suite in enumerate(_ORDER)}
    return sorted(found, key=lambda result: (order.get(result["suite"], len(order)), result["provenance"]["time"]))


def _place(result: dict) -> str:
    device = result["provenance"].get("device")
    return device["name"] if device else "host"


def markdown(results: list[dict]) -> str:
    """All tables, each under what it was measured on."""
    parts = ["# Benchmarks\n"]
    for result in results:
        parts.append(f"## {result['suite']} on {_place(result)}\n")
        parts.append(f"{provenance(result)}\n")
        parts += [table.markdown() for table in tables(result)]
    return "\n".join(parts)


def sections(results: list[dict]) -> list[tuple[str, str, list[Table], list[tuple[str, bytes]]]]:
    """(heading, provenance, tables, plots by name) of each result."""
    from bench.plots import plots
    return [(f"{result['suite']} on {_place(result)}", provenance(result), tables(result), plots(result)) for result in results]


def run(given: argparse.Namespace) -> int:
    """Make what was asked for."""
    results = load(given.files)
    text = markdown(results)
    if given.markdown:
        given.markdown.write_text(text)
    elif not given.html and not given.plots:
        print(text)
    if given.html or given.plots:
        found = sections(results)
        if given.plots:
            given.plots.mkdir(parents=True, exist_ok=True)
            for number, (_, _, _, images) in enumerate(found):
                for name, png in images:
                    (given.plots / f"{number}-{name}.png").write_bytes(png)
        if given.html:
            from bench.page import page
            given.html.write_text(page(found))
    for path in filter(None, (given.markdown, given.plots, given.html)):
        print(path)
    return 0
