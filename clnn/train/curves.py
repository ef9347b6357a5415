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
        if history.steps:
            panel.plot([p["epoch"] for p in history.steps], [p[key] for p in history.steps], color=_TRAINING, alpha=0.3, linewidth=1)
        if history.epochs:
            panel.plot([e["epoch"] for e in history.epochs], [e[key] for e in history.epochs], color=_TRAINING, marker="o",
                       markersize=4, label="training")
        validated = [e for e in history.epochs if e.get(f"validation_{key}") is not None]
        if validated:
            panel.plot([e["epoch"] for e in validated], [e[f"validation_{key}"] for e in validated], color=_VALIDATION, marker="s",
                       markersize=4, label="validation")
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
        raise FileError("cannot write the plot", where=path, got=str(error), hint="use a writable folder and a name that ends in .png") from error
