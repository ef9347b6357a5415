"""An operator with pointwise tails: what epilogue fusion makes."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..codegen.lowering import Lowering, Tail, attach_tails
from ..ir import ROW, Op, TensorSpec
from .pointwise import Map


@dataclass(frozen=True)
class Fused(Op):
    """``base`` followed by a Map on some of its outputs, in the same kernel.

    A tail's argument 0 is the base output, its other arguments are extra inputs of the node, which follow the base inputs in
    the order of the tails. ``tails`` is sorted by base output; the tail's outputs stand in place of the base output.
    """

    base: Op
    tails: tuple[tuple[int, Map], ...]
    #: extra inputs of each tail
    counts: tuple[int, ...]
    base_inputs: int = field(default=0)

    @property
    def name(self) -> str:
        return self.base.name

    def _split(self, inputs):
        """Base inputs, and the extra inputs of each tail by base output."""
        start, extra = self.base_inputs, {}
        for (index, _), count in zip(self.tails, self.counts, strict=True):
            extra[index] = tuple(inputs[start:start + count])
            start += count
        return tuple(inputs[:self.base_inputs]), extra

    def infer(self, *inputs):
        base, extra = self._split(inputs)
        tails = dict(self.tails)
        result = []
        for index, spec in enumerate(self.base.infer(*base)):
            result += tails[index].infer(spec, *extra[index]) if index in tails else (spec,)
        return tuple(result)

    def reference(self, *arrays):
        base, extra = self._split(arrays)
        tails = dict(self.tails)
        result = []
        for index, array in enumerate(self.base.reference(*base)):
            result += tails[index].reference(array, *extra[index]) if index in tails else (array,)
        return tuple(result)

    def _base_specs(self, inputs, outputs):
        base, extra = self._split(inputs)
        tails = dict(self.tails)
        made, position = [], 0
        for index, spec in enumerate(self.base.infer(*base)):
            made.append(TensorSpec(spec.shape, spec.dtype, outputs[position].layout))
            position += len(tails[index].exprs) if index in tails else 1
        return base, tuple(made), extra

    def flops(self, inputs, outputs):
        base, made, _ = self._base_specs(inputs, outputs)
        return self.base.flops(base, made) + sum(tail.flops((), (made[index],)) for index, tail in self.tails)

    @property
    def lowerings(self):
        return tuple(self._with_tails(lowering) for lowering in self.base.lowerings)

    def _with_tails(self, lowering: Lowering) -> Lowering:
        def layouts(op, inputs, outputs):
            base, made, extra = self._base_specs(inputs, outputs)
            tails = dict(self.tails)
            offered = []
            for given, results in lowering.layouts(self.base, base, made):
                taken, produced = list(given), []
                for index, layout in enumerate(results):
                    if index not in tails:
                        produced.append(layout)
                        continue
                    taken += [layout if spec.rank == 4 and spec.shape == made[index].shape else ROW for spec in extra[index]]
                    produced += [layout] * len(tails[index].exprs)
                offered.append((tuple(taken), tuple(produced)))
            return offered

        def refuse(op, inputs, outputs, target):
            base, made, _ = self._base_specs(inputs, outputs)
            return lowering.refuse(self.base, base, made, target)

        def emit(op, context) -> None:
            base, made, extra = self._base_specs(context.inputs, context.outputs)
            tails, position = {}, 0
            for index, _ in enumerate(made):
                tail = dict(self.tails).get(index)
                if tail is None:
                    position += 1
                    continue
                count = len(tail.exprs)
                tails[index] = Tail(tail.exprs, extra[index], tuple(context.outputs[position:position + count]))
                position += count
            reads = sum(spec.size == made[0].size for spec in extra.get(0, ()))
            offer = lowering.offer(self.base, base, made, context.target, context.config, forced=True, tail=reads)
            fused = attach_tails(offer, tails, len(base), len(made))
            context.adopt(fused)

        return Lowering(lowering.name, emit, refuse, layouts)

    def __str__(self) -> str:
        tails = ", ".join(f"{index}: {' '.join(map(str, tail.exprs))}" for index, tail in self.tails)
        return f"{self.base} then {{{tails}}}"
