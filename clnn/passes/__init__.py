"""Graph → Graph, one file per pass. A pass clones what it changes; the graph it was given stays as it was."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..config import config
from ..ir import Graph, verify
from ..target import Target
from .choose_lowerings import choose_lowerings

Pass = Callable[[Graph, Target], Graph]

#: the order matters and is explained in each pass
INFERENCE: tuple[Pass, ...] = (choose_lowerings,)
TRAINING: tuple[Pass, ...] = (choose_lowerings,)


def run_passes(graph: Graph, target: Target, passes: Sequence[Pass]) -> Graph:
    """Apply the passes in order, verifying the graph after each."""
    verify(graph)
    for apply in passes:
        graph = apply(graph, target)
        verify(graph, after=apply.__name__)
        if config.debug >= 5:
            print(f"-- after {apply.__name__}\n{graph}\n", flush=True)
    return graph
