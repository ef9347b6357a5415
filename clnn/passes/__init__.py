"""Graph → Graph, one file per pass. A pass clones what it changes; the graph it was given stays as it was."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from ..config import config
from ..ir import Graph, verify
from ..target import Target
from .assign_layouts import assign_layouts
from .choose_lowerings import choose_lowerings
from .costs import Costs
from .eliminate_dead_code import eliminate_dead_code
from .fold_batch_norm import fold_batch_norm
from .fold_constants import fold_constants
from .freeze_variables import freeze_variables
from .fuse_bias_gradient import fuse_bias_gradient
from .fuse_cross_entropy import fuse_cross_entropy
from .fuse_epilogues import fuse_epilogues
from .fuse_pointwise import fuse_pointwise
from .keep_old_values import keep_old_values
from .merge_duplicates import merge_duplicates
from .offers import Offers
from .simplify_views import simplify_views

Pass = Callable[[Graph, Target], Graph]
#: passes that ask what lowerings offer, and weigh times, if they are told them
WEIGHING: tuple[Callable, ...] = (assign_layouts, choose_lowerings)

#: dead code first, so that nothing is fused with what nobody wants; duplicates before fusion, which would hide them; pointwise
#: chains before
#: epilogues, so that a whole chain moves at once; layouts when the nodes are final; lowerings last
_COMMON: tuple[Pass, ...] = (eliminate_dead_code, keep_old_values, simplify_views, fold_constants, merge_duplicates)
_FUSION: tuple[Pass, ...] = (fuse_pointwise, fuse_epilogues, eliminate_dead_code, assign_layouts, choose_lowerings)

INFERENCE: tuple[Pass, ...] = (*_COMMON, *_FUSION)
#: inference with weights that no longer change
FROZEN: tuple[Pass, ...] = (freeze_variables, eliminate_dead_code, fold_batch_norm, *INFERENCE)
TRAINING: tuple[Pass, ...] = (*_COMMON, fuse_cross_entropy, fuse_bias_gradient, simplify_views, eliminate_dead_code, *_FUSION)


def run_passes(graph: Graph, target: Target, passes: Sequence[Pass], costs: Costs | None = None) -> Graph:
    """Apply the passes in order, verifying the graph after each. ``costs`` are the times by which layouts and lowerings are
    weighed; without them built-in orders count."""
    verify(graph)
    offers = Offers(target)
    for apply in passes:
        graph = apply(graph, target, costs, offers) if apply in WEIGHING else apply(graph, target)
        verify(graph, after=apply.__name__)
        if config.debug >= 5:
            print(f"-- after {apply.__name__}\n{graph}\n", file=sys.stderr, flush=True)
    return graph
