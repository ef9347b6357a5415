"""One file per suite, each with ``run(options) -> dict``."""

from __future__ import annotations

import importlib

#: name → what it measures
SUITES = {
    "gemm": "matrix products: square, transposed, skinny, matrix times vector",
    "layers": "the distinct convolutions of well-known networks, forward and both gradients",
    "memory": "operators bound by bandwidth, against a copy of the same tensor",
    "models": "training steps and inference of whole networks",
    "overhead": "what the host pays per launch",
    "start": "import, first build and warm start, in fresh processes",
    "memory-use": "device memory of a plan, against the sum of its temporaries and against PyTorch",
}


def run(name: str, options) -> dict:
    """Run one suite; its JSON is saved."""
    return importlib.import_module(f"bench.suites.{name.replace('-', '_')}").run(options)
