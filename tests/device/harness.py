"""Running one operator through one lowering, and comparing with its reference."""

from __future__ import annotations

import numpy as np

from clnn.codegen.lowering import Lowering
from clnn.codegen.template import declaration
from clnn.errors import LoweringError
from clnn.ir import Graph, Op, Sample
from clnn.plan import make_plan
from clnn.runtime import Executable


def operator_samples(operators) -> list[tuple[type, int]]:
    """(operator class, sample number) for parametrised tests; ids are readable."""
    return [(operator, number) for operator in operators for number in range(len(operator.samples()))]


def cases(sample: Sample):
    """(lowering, input specs, output specs) for every lowering and layout that the operator lists."""
    outputs = sample.op.infer(*sample.inputs)
    for lowering in sample.op.lowerings:
        seen = []
        for given, made in lowering.layouts(sample.op, sample.inputs, outputs):
            key = (tuple(given), tuple(made))
            if key in seen or not all(
                layout.fits(s.shape) for layout, s in zip(given + made, (*sample.inputs, *outputs), strict=True)
            ):
                continue
            seen.append(key)
            yield (
                lowering,
                tuple(s.with_layout(layout) for s, layout in zip(sample.inputs, given, strict=True)),
                tuple(s.with_layout(layout) for s, layout in zip(outputs, made, strict=True)),
            )


def offer_with(op: Op, lowering: Lowering, inputs, outputs, target, odd: bool):
    """The lowering's offer with default or odd tunables and choices; raises LoweringError if it does not apply."""
    offer = lowering.offer(op, inputs, outputs, target, forced=True)
    if not odd:
        return offer
    config = {choice.name: choice.values[-1] for choice in offer.choices}
    offer = lowering.offer(op, inputs, outputs, target, config=config, forced=True)
    for launch in offer.launches:
        config |= declaration(launch.kernel.template).odd()
    return lowering.offer(op, inputs, outputs, target, config=config, forced=True)


def build_together(offers, session) -> None:
    """Build the kernels of all offers in one program: PoCL takes 0.3 s for each, whatever is in it."""
    session.programs.build([launch.kernel for offer in offers for launch in offer.launches])


def run_offer(op: Op, offer, arrays, inputs, outputs, session) -> list[np.ndarray]:
    """Run one node with the given offer."""
    graph = Graph()
    values = [graph.input(spec, f"x{i}") for i, spec in enumerate(inputs)]
    node = graph.append(op, values, outputs)
    node.offer, node.lowering = offer, "given"
    graph.outputs = list(node.outputs)
    executable = Executable(make_plan(graph, session.target, join=False), session)
    for value, array in zip(values, arrays, strict=True):
        executable.write(value.name, array)
    executable.run()
    return [executable.read(value) for value in node.outputs]


def check_close(got, expected, tolerance: float, what: str) -> None:
    """Errors are judged on the scale of the reference tensor."""
    expected = np.asarray(expected, dtype=np.float64)
    scale = max(float(np.max(np.abs(expected))) if expected.size else 0.0, 1e-6)
    error = float(np.max(np.abs(got.astype(np.float64) - expected))) if expected.size else 0.0
    assert got.shape == expected.shape, f"{what}: shape {got.shape}, expected {expected.shape}"
    assert error <= tolerance * scale, f"{what}: largest error {error:.3g} on a scale of {scale:.3g}"


__all__ = ["LoweringError", "build_together", "cases", "check_close", "offer_with", "operator_samples", "run_offer"]
