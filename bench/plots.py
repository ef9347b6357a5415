"""PNG plots: the roofline, speed-ups per case, shares of the copy, networks."""

from __future__ import annotations

import io
import itertools

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from bench.tables import best_opponent, figure, labels, own_entry, precisions, short, speedup

CLNN, BEST, SLOWER, INK, GRID = "#1565c0", "#ef6c00", "#b0532c", "#1c2430", "#d9dee5"
#: the shades of each contestant's variants, in the order of their columns
SHADES = {"clnn": (CLNN, "#64b5f6", "#0d47a1", "#90caf9"),
          "torch-cuda": (BEST, "#ffa726", "#ffcc80", "#a33b00", "#d4761c", "#e0a458"),
          "torch-cpu": ("#8d6e63", "#bcaaa4"), "torch-cpu-tuned": ("#7b1fa2", "#ba68c8"),
          "tinygrad": ("#00897b", "#4db6ac"), "numpy": ("#607d8b",)}
UNKNOWN = ("#c2185b", "#9e9d24", "#5d4037")
plt.switch_backend("Agg")
plt.rcParams.update({"font.size": 10, "axes.edgecolor": GRID, "axes.labelcolor": INK, "text.color": INK, "xtick.color": INK,
                     "ytick.color": INK, "axes.grid": True, "grid.color": GRID, "grid.linewidth": 0.6, "axes.axisbelow": True,
                     "axes.spines.top": False, "axes.spines.right": False, "font.family": "DejaVu Sans"})


def _png(fig: Figure) -> bytes:
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=110, bbox_inches="tight", facecolor="white")
    plt.close(fig)
    return buffer.getvalue()


def _title(result: dict, precision: str, what: str) -> str:
    device = result["provenance"].get("device")
    return f"{what}, {precision}" + (f" – {device['name']}" if device else "")


def roofline(result: dict, precision: str) -> bytes | None:
    """Performance over intensity, with the two roofs."""
    peak = result["roofline"]["gflops"].get(precision)
    cases = [case for case in result["cases"] if case["flops"] and own_entry(case, precision)]
    if not peak or not cases:
        return None
    copy = result["roofline"]["copy_gbs"]
    fig, axes = plt.subplots(figsize=(9, 5.4))
    intensities = [case["flops"] / case["bytes"] for case in cases]
    ridge = peak / copy
    low, high = min(*intensities, ridge / 4) / 1.5, max(*intensities, 4 * ridge) * 1.5
    axes.plot([low, ridge, high], [low * copy, peak, peak], color=INK, linewidth=1.4,
              label=f"roof: {figure(peak)} GFLOP/s, {figure(copy)} GB/s from memory")
    cached = max(result["roofline"].get("reach_gbs", {}).values(), default=0.0)
    if cached > copy:
        low_cached = max(low, peak / cached / 16)
        axes.plot([low_cached, peak / cached], [low_cached * cached, peak], color=INK, linewidth=1, linestyle=":",
                  label=f"what caches hold: {figure(cached)} GB/s")
    series = (("best opponent", BEST, "D", best_opponent), ("clnn", CLNN, "o", own_entry))
    for name, colour, marker, entry in series:
        points = [(x, entry(case, precision)) for x, case in zip(intensities, cases, strict=True)]
        points = [(x, found["gflops"]) for x, found in points if found]
        if points:
            axes.scatter(*zip(*points, strict=True), s=26, color=colour, marker=marker, label=name, alpha=0.8, linewidths=0)
    axes.set(xscale="log", yscale="log", xlabel="flop per byte (every tensor touched once)", ylabel="GFLOP/s")
    axes.set_title(_title(result, precision, f"Roofline: {result['suite']}"), loc="left")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    return _png(fig)


def _panels(result: dict, precision: str) -> dict[str, dict[str, float]]:
    """Panel → case → speed-up; the directions of a layer are panels with common rows."""
    found: dict[str, dict[str, float]] = {}
    for case in result["cases"]:
        ratio = speedup(case, precision)
        if ratio:
            panel = case["kind"] if result["suite"] in ("layers", "models") else ""
            found.setdefault(panel, {})[case["name"].removesuffix(f" {panel}") if panel else case["name"]] = ratio
    return found


def speedups(result: dict, precision: str) -> bytes | None:
    """Bars to the right of 1 where clnn is faster than the best opponent, to the left where it is slower."""
    panels = _panels(result, precision)
    if not panels:
        return None
    rows = list(dict.fromkeys(name for bars in panels.values() for name in bars))
    size = (4.6 + 3.0 * len(panels), 1.3 + 0.26 * len(rows))
    fig, grid = plt.subplots(1, len(panels), figsize=size, sharey=True, squeeze=False)
    everything = [ratio for bars in panels.values() for ratio in bars.values()]
    low, high = min(*everything, 0.5) / 1.5, max(*everything, 2.0) * 1.5
    for axes, (panel, bars) in zip(grid[0], panels.items(), strict=True):
        for row, name in enumerate(rows):
            if name not in bars:
                continue
            ratio = bars[name]
            axes.barh(row, ratio - 1, left=1, height=0.72, color=CLNN if ratio >= 1 else SLOWER)
            axes.text(ratio * (1.04 if ratio >= 1 else 0.96), row, f"{ratio:.2f}", va="center", fontsize=8,
                      ha="left" if ratio >= 1 else "right")
        axes.axvline(1, color=INK, linewidth=1)
        axes.set(xscale="log", xlim=(low, high), ylim=(len(rows) - 0.4, -0.6))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))
        ticks = [t for t in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if low <= t <= high]
        axes.set_xticks(ticks if len(ticks) < 8 else [t for t in ticks if f"{t:g}".strip("0.") == "1"])
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        if panel:
            axes.set_title(panel, fontsize=10)
    grid[0][0].set_yticks(range(len(rows)), rows, fontsize=9)
    fig.tight_layout()                      # before the title, which would be given too much room
    title = _title(result, precision, f"clnn's speed over the best opponent's: {result['suite']}")
    fig.text(0.01, 1.0, title, va="bottom", fontsize=12)
    return _png(fig)


def _grouped(result: dict, precision: str, value, label: str, title: str, line: float | None, form) -> bytes | None:
    """Horizontal bars of every contestant, grouped by case; who has no bar in a case leaves no gap there."""
    names = labels(result, precision)
    cases = [case for case in result["cases"] if own_entry(case, precision)]
    if not cases:
        return None
    entries = [{e["label"]: e for e in case["results"] if e["label"] in names and not e["wrong"]} for case in cases]
    lengths = [{name: length for name in names if name in found and (length := value(case, found[name])) is not None}
               for case, found in zip(cases, entries, strict=True)]
    most = max(map(len, lengths))
    height = 0.8 / most
    fig, axes = plt.subplots(figsize=(10, 1.4 + len(cases) * max(0.36, 0.19 * most)))
    shades = {who: itertools.cycle(colours) for who, colours in SHADES.items()}
    other = itertools.cycle(UNKNOWN)
    greatest = max((length for bars in lengths for length in bars.values()), default=1.0)
    for name in names:
        bars = {row: bars[name] for row, bars in enumerate(lengths) if name in bars}
        if not bars:
            continue
        who = next(found[name]["who"] for found in entries if name in found)
        orders = {row: list(lengths[row]).index(name) - (len(lengths[row]) - 1) / 2 for row in bars}
        places = [row + order * height for row, order in orders.items()]
        axes.barh(places, list(bars.values()), height * 0.92, label=short(name, precision), color=next(shades.get(who, other)))
        for place, length in zip(places, bars.values(), strict=True):
            axes.text(length, place, f" {form(length)}", va="center", fontsize=7.5)
    if line is not None:
        axes.axvline(line, color=INK, linewidth=1)
    axes.set(xlabel=label, xlim=(0, greatest * 1.12), ylim=(len(cases) - 0.4, -0.6))
    axes.set_yticks(range(len(cases)), [case["name"] for case in cases])
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.set_title(_title(result, precision, title), loc="left", pad=12)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    return _png(fig)


def _of_copy(case: dict, entry: dict) -> float | None:
    own = own_entry(case, entry["variant"]["precision"])
    return 100 * own["bound_s"] / entry["median_s"] if own and own["bound_s"] else None


def _relative(case: dict, entry: dict) -> float | None:
    own = own_entry(case, entry["variant"]["precision"])
    return own["median_s"] / entry["median_s"] if own else None


def plots(result: dict) -> list[tuple[str, bytes]]:
    """(name, PNG) of everything worth drawing in a result."""
    if "cases" not in result:
        return []
    found: list[tuple[str, bytes | None]] = []
    suite = result["suite"]
    for precision in precisions(result):
        if suite in ("gemm", "layers"):
            found.append((f"roofline-{suite}-{precision}", roofline(result, precision)))
        if suite == "memory":
            found.append((f"copy-{precision}", _grouped(
                result, precision, _of_copy, "% of the speed of a copy that moves as many bytes", "Operators bound by bandwidth",
                100, lambda share: f"{share:.0f}")))
        if suite == "models":
            found.append((f"models-{precision}", _grouped(
                result, precision, _relative, "speed relative to clnn", "Whole networks", 1,
                lambda ratio: f"{ratio:.2f}" if ratio >= 0.095 else f"{ratio:.1g}")))
        found.append((f"speedup-{suite}-{precision}", speedups(result, precision)))
    return [(name, png) for name, png in found if png]
