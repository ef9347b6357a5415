"""Times as passes ask for them: measured where something was measured, else estimated."""

from __future__ import annotations

from ..codegen.lowering import Offer
from ..ir import Op, TensorSpec
from ..passes.costs import Specs
from ..runtime import Session
from .estimate import bound, relayout_seconds, speeds
from .lookup import fastest, known_at_all
from .problem import Problem


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
