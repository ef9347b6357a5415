"""What lowerings offer, asked once: choosing layouts looks at every offer, and choosing lowerings at the same ones again."""

from __future__ import annotations

from ..codegen.lowering import Lowering, Offer
from ..errors import LoweringError
from ..ir import Op
from ..target import Target
from .costs import Specs


class Offers:
    """The offers on one device while a graph is compiled. The configuration counts as well, so they are not kept for longer."""

    def __init__(self, target: Target):
        self.target = target
        self._known: dict[tuple, Offer | LoweringError] = {}

    def of(self, lowering: Lowering, op: Op, inputs: Specs, outputs: Specs, forced: bool) -> Offer:
        """The launches of one of the operator's lowerings.

        Raises:
            LoweringError: the reason why it does not apply.
        """
        key = (op, lowering.name, inputs, outputs, forced)
        if key not in self._known:
            try:
                self._known[key] = lowering.offer(op, inputs, outputs, self.target, forced=forced)
            except LoweringError as error:
                self._known[key] = error
        found = self._known[key]
        if isinstance(found, LoweringError):
            raise found
        return found
