"""The options that all suites share."""

from __future__ import annotations

import argparse
import functools
from dataclasses import dataclass, field
from pathlib import Path

from bench.opponents import OPPONENTS, Opponent
from bench.record import RESULTS
from clnn.compiler import open_session
from clnn.errors import ArgumentError
from clnn.runtime import Device, Session, select_device


@dataclass
class Options:
    """What the user asked for.

    Attributes:
        rounds: turns of each contestant.
        target_s: seconds that a turn should take.
        batch: images per step; None leaves it to the suite.
        only: parts of names, one of which a case must have.
        modes: of the opponents' eager, graph and compile those that take part; all if empty.
        limit: seconds that an opponent may take to prepare a case; None leaves it to the opponent.
    """

    device: Device
    rounds: int = 7
    quick: bool = False
    batch: int | None = None
    precisions: list[str] = field(default_factory=lambda: ["fp32"])
    opponents: list[Opponent] = field(default_factory=list)
    only: list[str] = field(default_factory=list)
    peaks: dict[str, float] = field(default_factory=dict)
    copy_gbs: float | None = None
    out: Path = RESULTS
    tag: str = ""
    modes: list[str] = field(default_factory=list)
    limit: float | None = None

    @property
    def target_s(self) -> float:
        return 0.02 if self.quick else 0.1

    @property
    def is_cpu(self) -> bool:
        return self.device.facts.is_cpu

    @property
    def session(self) -> Session:
        return open_session(self.device)

    def ours(self):
        from bench.ours import Ours
        return Ours(self.device)

    def wants(self, name: str) -> bool:
        """Whether a case is to be measured."""
        return not self.only or any(part.lower() in name.lower() for part in self.only)

    def name(self, suite: str) -> str:
        """The name of the result's file."""
        return "-".join(filter(None, [suite, "cpu" if self.is_cpu else "gpu", "quick" if self.quick else "", self.tag]))

    def to_json(self) -> dict:
        return {"rounds": self.rounds, "quick": self.quick, "batch": self.batch, "precisions": self.precisions, "only": self.only,
                "modes": self.modes, "seconds_per_turn": self.target_s}


def _list(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _peaks(text: str) -> dict[str, float]:
    try:
        return {name: float(value) for name, value in (part.split("=") for part in _list(text))}
    except ValueError:
        raise argparse.ArgumentTypeError("give precision=GFLOP/s, such as fp32=67000,tf32=494000") from None


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare them."""
    add = functools.partial(parser.add_argument)
    add("--device", default="auto", metavar="NAME", help="OpenCL device, as for clnn")
    add("--rounds", type=int, metavar="N", help="turns of each contestant (default 7; 3 with --quick)")
    add("--quick", action="store_true", help="few cases and short turns: minutes, to see that everything runs")
    add("--batch", type=int, metavar="N", help="images per step (default: the suite's own, by kind of device)")
    add("--precision", type=_list, default=["fp32"], metavar="LIST", help="of fp32, tf32, fp16, bf16 (default fp32)")
    add("--opponents", type=_list, metavar="LIST",
        help=f"of {', '.join(OPPONENTS)}, or none (default: those for the kind of device)")
    add("--modes", type=_list, default=[], metavar="LIST",
        help="PyTorch's modes, of eager, graph, compile (default all; compiling a network takes a minute and more)")
    add("--limit", type=float, metavar="SECONDS",
        help="what an opponent may take to prepare a case before it is ended (default 900, tinygrad 300)")
    add("--only", type=_list, default=[], metavar="LIST", help="cases whose name contains one of these")
    add("--peak", type=_peaks, default={}, metavar="LIST",
        help="peak GFLOP/s, such as fp32=67000,tf32=494000 (default: fp32 is measured)")
    add("--copy-gbs", type=float, metavar="N", help="copy bandwidth, GB/s read and written (default: measured)")
    add("--out", type=Path, default=RESULTS, metavar="FOLDER", help="where the JSON goes (default bench/results)")
    add("--tag", default="", metavar="TEXT", help="ends the name of the JSON, such as h200")


def read_options(given: argparse.Namespace) -> Options:
    """Options from the command line.

    Raises:
        ArgumentError: for an unknown opponent or precision.
    """
    device = select_device(given.device)
    kind = "cpu" if device.facts.is_cpu else "gpu"
    if given.opponents is None:
        chosen = [opponent for opponent in OPPONENTS.values() if kind in opponent.kinds]
    else:
        names = [name for name in given.opponents if name != "none"]
        if unknown := [name for name in names if name not in OPPONENTS]:
            raise ArgumentError("unknown opponent", where="--opponents", got=", ".join(unknown), expected=", ".join(OPPONENTS))
        chosen = [OPPONENTS[name] for name in names]
    if unknown := sorted(set(given.precision) - {"fp32", "tf32", "fp16", "bf16"}):
        raise ArgumentError("unknown precision", where="--precision", got=", ".join(unknown), expected="fp32, tf32, fp16 or bf16")
    rounds = given.rounds or (3 if given.quick else 7)
    return Options(device, rounds, given.quick, given.batch, given.precision, chosen, given.only, given.peak, given.copy_gbs,
                   given.out, given.tag, given.modes, given.limit)
