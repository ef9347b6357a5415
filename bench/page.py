"""One HTML page that needs nothing beside itself."""

from __future__ import annotations

import base64
from html import escape

from bench.tables import Table

_STYLE = """
:root { color-scheme: light; --ink: #1c2430; --soft: #5b6675; --line: #d9dee5; --head: #f3f5f8; --good: #0b6b3a; --bad: #a3341c }
* { box-sizing: border-box }
body { font: 15px/1.5 system-ui, "Segoe UI", Roboto, sans-serif; color: var(--ink) }
body { margin: 0 auto; max-width: 1280px; padding: 24px }
h1 { font-size: 26px; margin: 0 0 4px } h2 { font-size: 20px; margin: 40px 0 4px; border-bottom: 2px solid var(--line) }
h3 { font-size: 16px; margin: 24px 0 6px }
p { margin: 4px 0; color: var(--soft); font-size: 13px; overflow-wrap: anywhere }
nav a { margin-right: 14px }
.scroll { overflow-x: auto; max-height: 75vh; border: 1px solid var(--line); border-radius: 6px }
table { border-collapse: collapse; font-size: 13px; width: 100%; font-variant-numeric: tabular-nums }
th, td { padding: 4px 10px; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line) }
th { background: var(--head); position: sticky; top: 0; white-space: normal; vertical-align: bottom }
th:first-child, td:first-child { text-align: left }
tr:hover td { background: var(--head) }
.good { color: var(--good); font-weight: 600 } .bad { color: var(--bad); font-weight: 600 }
.wrong { color: #fff; background: var(--bad) }
figure { margin: 12px 0 } img { max-width: 100%; height: auto; border: 1px solid var(--line); border-radius: 6px }
"""


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in table.columns)
    rows = []
    for number, row in enumerate(table.rows):
        cells = []
        for column, cell in enumerate(row):
            mark = table.marks.get((number, column))
            cells.append(f"<td{f' class={mark}' if mark else ''}>{escape(cell)}</td>")
        rows.append(f"<tr>{''.join(cells)}</tr>")
    notes = "".join(f"<p>{escape(note)}</p>" for note in table.notes)
    return (f"<h3>{escape(table.title)}</h3>\n<div class=scroll><table><thead><tr>{head}</tr></thead>\n<tbody>"
            + "\n".join(rows) + f"</tbody></table></div>\n{notes}\n")


def _figure(name: str, png: bytes) -> str:
    return f'<figure><img alt="{escape(name)}" src="data:image/png;base64,{base64.b64encode(png).decode()}"></figure>\n'


def page(sections: list[tuple[str, str, list[Table], list[tuple[str, bytes]]]]) -> str:
    """The page of (heading, provenance, tables, plots) sections."""
    links = "".join(f'<a href="#s{number}">{escape(heading)}</a>' for number, (heading, *_) in enumerate(sections))
    parts = []
    for number, (heading, origin, found, images) in enumerate(sections):
        parts.append(f'<h2 id="s{number}">{escape(heading)}</h2>\n<p>{escape(origin)}</p>\n')
        parts += [_figure(name, png) for name, png in images]
        parts += [_table(table) for table in found]
    return (f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
            f"<title>clnn benchmarks</title><style>{_STYLE}</style></head><body>\n<h1>clnn benchmarks</h1>\n"
            "<p>Times are medians over rounds in which the contestants took turns, ± half the span of the rounds. Only "
            "equal precision is compared, and only where the output agreed with the reference. bench/README.md says how it is "
            "measured.</p>\n"
            f"<nav>{links}</nav>\n{''.join(parts)}</body></html>\n")
