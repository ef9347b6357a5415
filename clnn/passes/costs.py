"""What passes ask about time. They do not know where the answers come from: the compiler hands them in."""

from __future__ import annotations

from typing import Protocol

from ..codegen.lowering import Offer
from ..ir import Op, TensorSpec

Specs = tuple[TensorSpec, ...]


class Costs(Protocol):
    """Seconds on one device."""

    def estimate(self, op: Op, inputs: Specs, outputs: Specs, offer: Offer) -> float:
        """What an offer should take."""

    def measured(self, op: Op, inputs: Specs, outputs: Specs) -> float | None:
        """What the fastest way took that was ever measured for this operator on these tensors."""

    def relayout(self, spec: TensorSpec) -> float:
        """What moving a tensor to another layout takes."""

    def recall(self, question: str):
        """The answer, a JSON value, that was kept for a question when all times were what they are now; None if there is none."""

    def keep(self, question: str, answer) -> None:
        """Keep an answer that was found by these times, for other processes as well."""
