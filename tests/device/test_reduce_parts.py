"""Rows that are cut into parts, as GPUs do with few long ones, against numpy."""

import numpy as np
import pytest

import clnn
from clnn import ops
from clnn.ops import reduce


@pytest.mark.parametrize("axes", [(0, 2, 3), (1,), (2, 3), (0, 1, 2, 3)])
@pytest.mark.parametrize("kind", ["sum", "mean", "max"])
def test_parts_join_to_the_whole(kind, axes, device_session, monkeypatch):
    monkeypatch.setattr(reduce, "_parts", lambda view, target: 4 if view.cols[0].extent % 4 == 0 else 1)
    x = np.random.default_rng(0).standard_normal((8, 4, 8, 4)).astype(np.float32)
    found = clnn.evaluate(lambda a: getattr(ops, kind)(a, axes), x, device=device_session.device)
    np.testing.assert_allclose(found, getattr(np, kind)(x.astype(np.float64), axes), atol=1e-5)
