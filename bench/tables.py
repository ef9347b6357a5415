"""Results as tables of text: what the Markdown and the page show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

TITLES = {"gemm": "Matrix products", "layers": "Convolution layers", "memory": "Operators bound by bandwidth",
          "models": "Whole networks", "overhead": "Host cost per launch", "start": "Start", "memory-use": "Device memory"}

#: half a span of the rounds above which a time is not worth much
UNSTEADY = 0.25


@dataclass
class Table:
    """Rows of text under headings; columns but the first are flush right. ``marks``: (row, column) → good, bad or wrong."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    notes: list[str] = field(default_factory=list)
    marks: dict[tuple[int, int], str] = field(default_factory=dict)

    def markdown(self) -> str:
        lines = [f"### {self.title}", "", _line(self.columns), _line(["---", *["---:"] * (len(self.columns) - 1)])]
        lines += [_line(row) for row in self.rows]
        return "\n".join([*lines, "", *(f"{note}  " for note in self.notes)]).rstrip() + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


# -- reading one case -------------------------------------------------------------------------------------------------------

def is_own(entry: dict) -> bool:
    return entry["who"] == "clnn"


def own_entry(case: dict, precision: str) -> dict | None:
    """clnn's plain entry, if its numbers were right."""
    fit = [e for e in case["results"] if is_own(e) and e["variant"]["precision"] == precision and not e["wrong"]]
    return next((e for e in fit if e["variant"]["mode"] == "eager"), fit[0] if fit else None)


def best_opponent(case: dict, precision: str) -> dict | None:
    """The fastest opponent of the same precision whose numbers were right."""
    fit = [e for e in case["results"] if not is_own(e) and e["variant"]["precision"] == precision and not e["wrong"]]
    return min(fit, key=lambda e: e["median_s"], default=None)


def speedup(case: dict, precision: str) -> float | None:
    """Time of the best opponent over clnn's: above 1 clnn is faster."""
    own, best = own_entry(case, precision), best_opponent(case, precision)
    return best["median_s"] / own["median_s"] if own and best else None


def precisions(result: dict) -> list[str]:
    """Those that were measured, in a fixed order."""
    present = {e["variant"]["precision"] for case in result["cases"] for e in case["results"]}
    return [p for p in ("fp32", "tf32", "fp16", "bf16") if p in present]


def labels(result: dict, precision: str) -> list[str]:
    """The contestants of a precision, clnn first."""
    found = {e["label"]: is_own(e) for case in result["cases"] for e in case["results"] if e["variant"]["precision"] == precision}
    return sorted(found, key=lambda label: not found[label])


def short(label: str, precision: str) -> str:
    """A label without its precision, which the title says."""
    return " ".join(part for part in label.split() if part != precision)


def geometric_mean(values: Sequence[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


# -- numbers as text --------------------------------------------------------------------------------------------------------

def figure(value: float) -> str:
    """Three significant digits, without an exponent where that can be read."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    if abs(value) < 1e-5:
        return f"{value:.2e}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(digits, 6)}f}"


def timing(entry: dict) -> str:
    """Median in milliseconds and half the span of the rounds in percent."""
    if entry["wrong"]:
        return f"wrong ({entry['error']:.0e})"
    return f"{figure(entry['median_s'] * 1e3)} ±{100 * half_span(entry):.0f} %"


def half_span(entry: dict) -> float:
    """Half the span of the rounds, as a share of their median."""
    return (entry["max_s"] - entry["min_s"]) / entry["median_s"] / 2


# -- tables -----------------------------------------------------------------------------------------------------------------

def case_tables(result: dict) -> list[Table]:
    """One table per precision of a suite of cases."""
    return [_case_table(result, precision) for precision in precisions(result)]


def _case_table(result: dict, precision: str) -> Table:
    suite, names = result["suite"], labels(result, precision)
    work = {"memory": "MB", "models": "clnn, images/s"}.get(suite, "Gflop")
    roof = "copy" if suite == "memory" else "bound"
    times = [f"{short(name, precision)}, ms" for name in names]
    columns = ["case", work, f"{roof}, ms", *times, f"clnn, % of {roof}", "best / clnn"]
    table = Table(f"{TITLES.get(suite, suite)}, {precision}", columns, [])
    ratios = []
    for case in result["cases"]:
        entries = {e["label"]: e for e in case["results"]}
        if not any(name in entries for name in names):
            continue
        own, ratio = own_entry(case, precision), speedup(case, precision)
        bound = own["bound_s"] if own else None
        cells = [timing(entries[name]) if name in entries else "–" for name in names]
        share = f"{100 * own['of_bound']:.0f}" if own and own["of_bound"] else "–"
        table.rows.append([case["name"], _amount(suite, case, own), figure(bound * 1e3) if bound else "–", *cells, share,
                           f"{ratio:.2f}" if ratio else "–"])
        row = len(table.rows) - 1
        for column, name in enumerate(names, 3):
            if name in entries and entries[name]["wrong"]:
                table.marks[row, column] = "wrong"
        if ratio:
            ratios.append(ratio)
            table.marks[row, len(columns) - 1] = "good" if ratio >= 1 else "bad"
    if ratios:
        wins = sum(ratio >= 1 for ratio in ratios)
        table.notes.append(f"best / clnn is the time of the fastest opponent of the same precision over clnn's: geometric mean "
                           f"{geometric_mean(ratios):.2f} over {len(ratios)} cases, above 1 in {wins}.")
    table.notes += _notes(result, precision, roof)
    return table


def _amount(suite: str, case: dict, own: dict | None) -> str:
    """How much work a case is; for networks how much clnn does in a second."""
    if suite == "models":
        return figure(own["images_per_s"]) if own else "–"
    return figure(case["bytes"] / 1e6 if suite == "memory" else case["flops"] / 1e9)


def _notes(result: dict, precision: str, roof: str) -> list[str]:
    roofline, notes = result["roofline"], []
    peak = roofline["gflops"].get(precision)
    if peak:
        source = roofline["sources"].get(precision, "")
        notes.append(f"Peak {figure(peak)} GFLOP/s ({source}), copy {figure(roofline['copy_gbs'])} GB/s "
                     f"({roofline['sources'].get('bandwidth', '')}).")
    errors = [e["error"] for case in result["cases"] for e in case["results"]
              if is_own(e) and e["variant"]["precision"] == precision and e["error"] is not None]
    if errors:
        notes.append(f"clnn's largest error is {max(errors):.1e} of the reference's largest value; above "
                     f"{result['tolerance'][precision]:g} a time does not count.")
    return notes + _unsteady(result, precision) + _skips(result, precision) + absences(result)


def _unsteady(result: dict, precision: str) -> list[str]:
    """A warning where rounds differ so much that ratios mean little."""
    spans = [half_span(e) for case in result["cases"] for e in (own_entry(case, precision), best_opponent(case, precision)) if e]
    many = sum(span > UNSTEADY for span in spans)
    if 4 * many <= len(spans):
        return []
    return [f"The rounds of {many} of {len(spans)} of these times differ by more than ±{100 * UNSTEADY:.0f} %: "
            "the machine was busy; measure again."]


def _skips(result: dict, precision: str) -> list[str]:
    """Who was skipped where, and why; cases with the same reason in one line."""
    found: dict[tuple[str, str], list[str]] = {}
    for case in result["cases"]:
        for skip in case["skipped"]:
            v = skip["variant"]
            if v["precision"] == precision:
                layout = v.get("layout", "")
                layout = layout if layout != "NCHW" or skip["who"].startswith("torch") else ""
                who = " ".join(filter(None, [skip["who"], layout, v["mode"] if v.get("mode") != "eager" else ""]))
                found.setdefault((who, skip["reason"]), []).append(case["name"])
    lines = []
    for (who, reason), names in found.items():
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        lines.append(f"Skipped: {who} in {', '.join(names[:3])}{more}: {reason}")
    return lines[:12]


def absences(result: dict) -> list[str]:
    return [f"Absent: {name}: {reason}" for name, reason in result.get("absent", {}).items()]


def row_table(result: dict) -> Table:
    """The table of a suite whose result is rows of named values."""
    columns = list(dict.fromkeys(name for row in result["rows"] for name in row))
    rows = [[_cell(row.get(name)) for name in columns] for row in result["rows"]]
    return Table(TITLES.get(result["suite"], result["suite"]), columns, rows, absences(result))


def _cell(value) -> str:
    if value is None:
        return "–"
    return figure(value) if isinstance(value, float) else str(value)


def tables(result: dict) -> list[Table]:
    """All tables of one result."""
    return case_tables(result) if "cases" in result else [row_table(result)]


def provenance(result: dict) -> str:
    """Where a result comes from, in one paragraph."""
    p = result["provenance"]
    device = p.get("device")
    where = "no device"
    if device:
        where = f"{device['name']} ({device['platform']}, driver {device['driver']}, {device['compute_units']} units)"
    versions = ", ".join(f"{name} {version}" for name, version in p["versions"].items())
    others = "; ".join(f"{name}: " + ", ".join(f"{key} {value}" for key, value in about.items())
                       for name, about in result.get("contestants", {}).items() if name != "clnn")
    rounds = result["options"]["rounds"]
    quick = ", a quick run: figures are not reliable" if result["options"].get("quick") else ""
    return (f"{where}; {p['cores']} cores; Python {p['python']}, {versions}; " + (f"{others}; " if others else "")
            + f"commit {p['commit']}, {p['time']}; `{p['command']}`; medians of {rounds} rounds{quick}.")
