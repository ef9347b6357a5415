"""Times as passes ask for them: measured where something was measured, else estimated."""

from __future__ import annotations

import functools
from dataclasses import fields
from pathlib import Path

from ..codegen.lowering import Offer
from ..codegen.template import folder
from ..config import KNOBS, config
from ..files import Answers
from ..ir import Op, TensorSpec
from ..passes.costs import Specs
from ..runtime import Session
from .estimate import bound, relayout_seconds, speeds
from .lookup import fastest, known_at_all
from .problem import Problem
from .store import store_path


class DeviceCosts:
    """Seconds on the device of a session; with ``use_measured`` off, estimates only."""

    def __init__(self, session: Session, use_measured: bool = True):
        self.session = session
        self._measured = use_measured and known_at_all()

    def estimate(self, op: Op, inputs: Specs, outputs: Specs, offer: Offer) -> float:
        target = self.session.target
        return bound(Problem(op, inputs, outputs), offer, speeds(self.session), target.compute_units, target.is_cpu)

    def measured(self, op: Op, inputs: Specs, outputs: Specs) -> float | None:
        return fastest(Problem(op, inputs, outputs), self.session.target) if self._measured else None

    def relayout(self, spec: TensorSpec) -> float:
        return relayout_seconds(spec, speeds(self.session), self.session.target.is_cpu)

    def recall(self, question: str):
        return Answers(config.cache / "choices").recall(f"{self._facts}\n{question}")

    def keep(self, question: str, answer) -> None:
        Answers(config.cache / "choices").keep(f"{self._facts}\n{question}", answer)

    @functools.cached_property
    def _facts(self) -> str:
        """What else a choice follows from: the device and its speeds, what was measured, the configuration, and clnn as it is."""
        target = self.session.target
        device = [sorted(value) if isinstance(value, frozenset) else value
                  for value in (getattr(target, field.name) for field in fields(target))]
        knobs = [getattr(config, name) for name in KNOBS]
        return repr((device, speeds(self.session), self._measured, _stamp(store_path()), knobs, _sources()))


def _stamp(path: Path) -> tuple | None:
    """By what a file is known to be the same."""
    try:
        found = path.stat()
    except OSError:
        return None
    return str(path), found.st_size, found.st_mtime_ns


@functools.cache
def _sources() -> list[tuple | None]:
    """The files of clnn."""
    package = Path(__file__).resolve().parents[1]
    return [_stamp(path) for top, ends in ((package, (".py", ".jsonl")), (folder(), (".cl", ".mako")))
            for path in sorted(top.rglob("*")) if path.suffix in ends]
