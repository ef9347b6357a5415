"""``clnn bench``: runs the benchmarks of the checkout; they are not installed."""

from __future__ import annotations

import argparse
import runpy
import sys
from pathlib import Path

from ..errors import ArgumentError
from .parser import add_device


def add(commands) -> argparse.ArgumentParser:
    """Declare the command."""
    parser = commands.add_parser("bench", help="measure against PyTorch, tinygrad and numpy (in a checkout)",
                                 usage="clnn bench [-h] [--device NAME] SUITE [options]",
                                 description="Run `python -m bench` of the checkout that clnn is used from. `clnn bench SUITE "
                                             "--help` lists a suite's options; bench/README.md says what is measured and how.")
    add_device(parser)
    parser.add_argument("suite", metavar="SUITE",
                        help="gemm, layers, memory, models, overhead, start, memory-use, all; or report, for tables and plots")
    parser.add_argument("options", nargs=argparse.REMAINDER, metavar="options", help="the suite's own options")
    return parser


def run(given: argparse.Namespace) -> int:
    """Run one suite as `python -m bench` would."""
    root = checkout()
    device = ["--device", given.device] if given.device != "auto" else []
    sys.path.insert(0, str(root))
    sys.argv = ["bench", given.suite, *device, *given.options]
    try:
        runpy.run_module("bench", run_name="__main__")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def checkout() -> Path:
    """The folder in which both clnn and bench lie.

    Raises:
        ArgumentError: if clnn is used from elsewhere.
    """
    root = Path(__file__).resolve().parents[2]
    if not (root / "bench" / "__main__.py").is_file():
        raise ArgumentError("the benchmarks are not installed with clnn", where="clnn bench", expected=f"{root / 'bench'}",
                            hint="clone the repository and run `python -m bench` in it; they lie in its folder bench")
    return root
