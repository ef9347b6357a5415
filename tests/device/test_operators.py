"""Every operator × sample × lowering × layout × {default, odd tunables} against its float64 reference, and its gradient against
finite differences of that reference."""

from __future__ import annotations

import numpy as np
import pytest
from builds import quick_builds
from harness import LoweringError, build_together, cases, check_close, offer_with, operator_samples, run_offer

import clnn
from clnn.ops import OPERATORS

TOLERANCE = 2e-5
STEP = 1e-5


def sample_id(case) -> str:
    operator, number = case
    return f"{operator.__name__}-{number}"


@pytest.mark.parametrize("case", operator_samples(OPERATORS), ids=sample_id)
def test_lowerings_agree_with_reference(case, device_session):
    operator, number = case
    sample = operator.samples()[number]
    arrays = sample.arrays()
    expected = sample.op.reference(*(a.astype(np.float64) if a.dtype.kind == "f" else a for a in arrays))
    target, offered, refused = device_session.target, [], []
    for lowering, inputs, outputs in cases(sample):
        for odd in (False, True):
            label = f"{sample} by {lowering.name} {[str(s.layout) for s in inputs]} {'odd' if odd else 'default'}"
            try:
                offer = offer_with(sample.op, lowering, inputs, outputs, target, odd)
            except LoweringError as error:
                assert error.what
                refused.append(f"{label}: {error.what}")
                continue
            elsewhere = odd or bool(lowering.refuse(sample.op, inputs, outputs, target))
            offered.append((elsewhere, offer, inputs, outputs, label, lowering.name))
    for elsewhere in (False, True):
        with quick_builds(target, elsewhere):
            build_together([offer for where, offer, *_ in offered if where == elsewhere], device_session)
    for _, offer, inputs, outputs, label, _ in offered:
        got = run_offer(sample.op, offer, arrays, inputs, outputs, device_session)
        for i, (g, e) in enumerate(zip(got, expected, strict=True)):
            check_close(g, e, sample.tolerance or TOLERANCE, f"{label}, output {i}")
    applied = {name for *_, name in offered}
    assert sample.op.lowerings[-1].name in applied, f"the last lowering must apply: {refused}"


@pytest.mark.parametrize("case", [c for c in operator_samples(OPERATORS) if c[0].samples()[c[1]].differentiable], ids=sample_id)
def test_gradient_agrees_with_finite_differences(case, device, device_session):
    """Kernels are not optimised here: above each is, and here it counts which ones there are and how they hang together."""
    operator, number = case
    sample = operator.samples()[number]
    arrays = sample.arrays()
    rng = np.random.default_rng(1)
    wide = [a.astype(np.float64) if a.dtype.kind == "f" else a for a in arrays]
    outputs = [np.asarray(o) for o in sample.op.reference(*wide)]
    floats = [i for i, spec in enumerate(sample.op.infer(*sample.inputs)) if spec.dtype.startswith("float")]
    weights = {i: rng.standard_normal(outputs[i].shape) for i in floats}

    def scalar(*values) -> float:
        found = sample.op.reference(*values)
        return float(sum(np.sum(np.asarray(found[i], np.float64) * weights[i]) for i in floats))

    def traced(*values):
        produced = values[0].graph.add(sample.op, values)
        total = None
        for i in floats:
            term = clnn.ops.sum(clnn.ops.mul(produced[i], weights[i].astype(np.float32)))
            total = term if total is None else clnn.ops.add(total, term)
        return total

    with quick_builds(device_session.target):
        _, gradients = clnn.vjp(traced, *arrays, device=device)
    for i, gradient in enumerate(gradients):
        if gradient is None:
            continue
        for _ in range(3):
            direction = rng.standard_normal(arrays[i].shape)
            shifted = [list(wide), list(wide)]
            shifted[0][i] = wide[i] + STEP * direction
            shifted[1][i] = wide[i] - STEP * direction
            numeric = (scalar(*shifted[0]) - scalar(*shifted[1])) / (2 * STEP)
            analytic = float(np.sum(gradient.astype(np.float64) * direction))
            scale = float(np.sqrt(np.sum(gradient.astype(np.float64) ** 2))) + 1e-3
            assert abs(numeric - analytic) <= 2e-3 * scale + 1e-4 * abs(numeric), \
                f"{sample}, input {i}: finite difference {numeric:.6g}, gradient {analytic:.6g}"
