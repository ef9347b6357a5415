"""Every operator × sample × lowering × layout × {default, odd tunables} against its float64 reference, and its gradient against
finite differences of that reference.

Every program costs PoCL 0.3 s, whatever is in it, so the kernels of some samples that follow each other share one.
"""

from __future__ import annotations

import functools
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import pytest
from builds import quick_builds
from harness import LoweringError, build_together, cases, check_close, offer_with, operator_samples, run_offer

import clnn
from clnn.codegen.lowering import Offer
from clnn.errors import BuildError
from clnn.ir import TensorSpec
from clnn.ops import OPERATORS

TOLERANCE = 2e-5
STEP = 1e-5
#: samples that share programs: more would be built in vain where workers take turns at them
TOGETHER, GRADIENTS_TOGETHER = 4, 8
SAMPLES = operator_samples(OPERATORS)
DIFFERENTIABLE = [(operator, number) for operator, number in SAMPLES if operator.samples()[number].differentiable]


def sample_id(case) -> str:
    operator, number = case
    return f"{operator.__name__}-{number}"


def neighbours(case, every: list, count: int) -> tuple:
    """The samples that share programs with this one, itself among them."""
    start = every.index(case) // count * count
    return tuple(every[start:start + count])


# -- forward ------------------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Way:
    """A lowering in one layout, with default or odd tunables; ``quick``: CPUs never run it by default."""

    lowering: str
    offer: Offer
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    label: str
    quick: bool


@functools.cache
def ways(case, session) -> tuple[list[Way], list[str]]:
    """How a sample can be run, and what else was refused, with the reasons."""
    operator, number = case
    sample, target = operator.samples()[number], session.target
    found, refused = [], []
    for lowering, inputs, outputs in cases(sample):
        for odd in (False, True):
            label = f"{sample} by {lowering.name} {[str(s.layout) for s in inputs]} {'odd' if odd else 'default'}"
            try:
                offer = offer_with(sample.op, lowering, inputs, outputs, target, odd)
            except LoweringError as error:
                assert error.what
                refused.append(f"{label}: {error.what}")
                continue
            quick = odd or bool(lowering.refuse(sample.op, inputs, outputs, target))
            found.append(Way(lowering.name, offer, inputs, outputs, label, quick))
    return found, refused


@functools.cache
def build_all(samples: tuple, session) -> None:
    """Build the kernels of some samples, those that are not optimised apart, as options are those of a program."""
    found = [way for case in samples for way in ways(case, session)[0]]
    for quick in (False, True):
        with quick_builds(session.target, quick):
            build_together([way.offer for way in found if way.quick == quick], session)


@pytest.mark.parametrize("case", SAMPLES, ids=sample_id)
def test_lowerings_agree_with_reference(case, device_session):
    operator, number = case
    sample = operator.samples()[number]
    arrays = sample.arrays()
    expected = sample.op.reference(*(a.astype(np.float64) if a.dtype.kind == "f" else a for a in arrays))
    found, refused = ways(case, device_session)
    with suppress(BuildError):          # it may be a neighbour's; what is missing is built below
        build_all(neighbours(case, SAMPLES, TOGETHER), device_session)
    for way in found:
        with quick_builds(device_session.target, way.quick):
            got = run_offer(sample.op, way.offer, arrays, way.inputs, way.outputs, device_session)
        for i, (g, e) in enumerate(zip(got, expected, strict=True)):
            check_close(g, e, sample.tolerance or TOLERANCE, f"{way.label}, output {i}")
    assert sample.op.lowerings[-1].name in {way.lowering for way in found}, f"the last lowering must apply: {refused}"


# -- gradients ----------------------------------------------------------------------------------------------------------

class Weighted:
    """A sample with its outputs added up by random weights, which makes a scalar of them."""

    def __init__(self, case):
        operator, number = case
        self.sample = sample = operator.samples()[number]
        self.arrays = sample.arrays()
        self.wide = [a.astype(np.float64) if a.dtype.kind == "f" else a for a in self.arrays]
        rng = np.random.default_rng(1)
        shapes = [np.shape(output) for output in sample.op.reference(*self.wide)]
        specs = sample.op.infer(*sample.inputs)
        self.weights = {i: rng.standard_normal(shapes[i]) for i, spec in enumerate(specs) if spec.dtype.startswith("float")}

    def reference(self, values) -> float:
        found = self.sample.op.reference(*values)
        return float(sum(np.sum(np.asarray(found[i], np.float64) * weight) for i, weight in self.weights.items()))

    def traced(self, values):
        produced = values[0].graph.add(self.sample.op, values)
        terms = [clnn.ops.sum(clnn.ops.mul(produced[i], weight.astype(np.float32))) for i, weight in self.weights.items()]
        return functools.reduce(clnn.ops.add, terms)


@functools.cache
def gradients(samples: tuple, device) -> dict:
    """The gradients of some samples' scalars, by sample: of their sum, in which none has to do with another.

    Kernels are not optimised here: above each is, and here it counts which ones there are and how they hang together.
    """
    weighted = {case: Weighted(case) for case in samples}
    ends = np.cumsum([len(one.arrays) for one in weighted.values()])

    def split(values):
        return [values[end - len(one.arrays):end] for one, end in zip(weighted.values(), ends, strict=True)]

    def traced(*values):
        terms = [one.traced(own) for one, own in zip(weighted.values(), split(values), strict=True)]
        return functools.reduce(clnn.ops.add, terms)

    with quick_builds(device.facts):
        _, found = clnn.vjp(traced, *(array for one in weighted.values() for array in one.arrays), device=device)
    return dict(zip(weighted, split(found), strict=True))


@pytest.mark.parametrize("case", DIFFERENTIABLE, ids=sample_id)
def test_gradient_agrees_with_finite_differences(case, device):
    one = Weighted(case)
    rng = np.random.default_rng(2)
    for i, gradient in enumerate(gradients(neighbours(case, DIFFERENTIABLE, GRADIENTS_TOGETHER), device)[case]):
        if gradient is None:
            continue
        for _ in range(3):
            direction = rng.standard_normal(one.wide[i].shape)
            shifted = [list(one.wide), list(one.wide)]
            shifted[0][i] = one.wide[i] + STEP * direction
            shifted[1][i] = one.wide[i] - STEP * direction
            numeric = (one.reference(shifted[0]) - one.reference(shifted[1])) / (2 * STEP)
            analytic = float(np.sum(gradient.astype(np.float64) * direction))
            scale = float(np.sqrt(np.sum(gradient.astype(np.float64) ** 2))) + 1e-3
            assert abs(numeric - analytic) <= 2e-3 * scale + 1e-4 * abs(numeric), \
                f"{one.sample}, input {i}: finite difference {numeric:.6g}, gradient {analytic:.6g}"
