"""What commands print: with colours and boxes on a terminal, as plain text elsewhere."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def output() -> Console:
    """Standard output. Texts are printed as they are: no markup, no guessing of colours, no hyphenation at the margin."""
    from rich.console import Console
    return Console(markup=False, highlight=False, emoji=False, soft_wrap=True)


def errors() -> Console:
    """Standard error, likewise."""
    from rich.console import Console
    return Console(stderr=True, markup=False, highlight=False, emoji=False, soft_wrap=True)


def print_json(value: object) -> None:
    """JSON, indented."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def heading(text: str) -> None:
    """A line above a section."""
    output().print(f"\n{text}", style="bold")


def fields(rows: Sequence[tuple[str, object]]) -> None:
    """Names and values in two columns; long values go on below themselves."""
    console = output()
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        lines = str(value).splitlines() or [""]
        console.print(f"{name:{width}}", style="bold", end="  ")
        console.print(lines[0])
        for line in lines[1:]:
            console.print(" " * (width + 2) + line)


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], right: Sequence[str] = (),
          strong: Sequence[int] = ()) -> None:
    """A table.

    Args:
        columns: the headings.
        right: the headings of the columns that are flush right.
        strong: numbers of the rows to stress.
    """
    cells = [[str(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _boxed(columns, cells, right, strong)
    else:
        _plain(columns, cells, right)


def _boxed(columns: Sequence[str], cells: list[list[str]], right: Sequence[str], strong: Sequence[int]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for name in columns:
        made.add_column(name, justify="right" if name in right else "left", no_wrap=name in right, overflow="fold")
    for number, row in enumerate(cells):
        made.add_row(*map(Text, row), style="bold green" if number in strong else None)
    output().print(made, soft_wrap=False)


def _plain(columns: Sequence[str], cells: list[list[str]], right: Sequence[str]) -> None:
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    for row in (columns, *cells):
        print("  ".join(f"{cell:>{width}}" if name in right else f"{cell:{width}}"
                        for cell, width, name in zip(row, widths, columns, strict=True)).rstrip())


def percent(part: float) -> str:
    """0.98765 as ``98.77 %``."""
    return f"{100 * part:.2f} %"


def size(nbytes: float) -> str:
    """Bytes in a unit that fits."""
    for unit, scale in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if nbytes >= scale:
            return f"{nbytes / scale:.1f} {unit}"
    return f"{nbytes:.0f} B"
