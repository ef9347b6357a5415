"""Training curves, drawn with matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ArgumentError, FileError

if TYPE_CHECKING:
    from .history import History

_TRAINING, _VALIDATION = "#1f6fb4", "#d9622b"


def draw(history: History, path: Path) -> None:
    """Two panels, loss and accuracy; the logged points lie faint behind the epochs' means."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator, PercentFormatter
    except ImportError as error:
        raise ArgumentError("matplotlib is needed to plot and is not installed", where="History.plot",
                            hint="pip install clnn[plot]") from error
    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2)
    for panel, key, title in zip(panels, ("loss", "accuracy"), ("Loss", "Accuracy"), strict=True):
        for records, name, style in (
                (history.steps, key, {"color": _TRAINING, "alpha": 0.3, "linewidth": 1}),
                (history.epochs, key, {"color": _TRAINING, "marker": "o", "markersize": 4, "label": "training"}),
                (history.epochs, f"validation_{key}",
                 {"color": _VALIDATION, "marker": "s", "markersize": 4, "label": "validation"})):
            points = [(record["epoch"], record[name]) for record in records if record.get(name) is not None]
            if points:
                panel.plot(*zip(*points, strict=True), **style)
        panel.set_title(title, loc="left", fontweight="bold")
        panel.set_xlabel("epoch")
        panel.set_ylabel(key)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.grid(alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
        if panel.get_legend_handles_labels()[0]:
            panel.legend(frameon=False)
    panels[1].yaxis.set_major_formatter(PercentFormatter(1.0))
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise FileError("cannot write the plot", where=path, got=str(error),
                        hint="use a writable folder and a name that ends in .png") from error
