"""What the benchmarks need of a device: a roof, and opponents that compute what the cases say."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from bench import roofline  # noqa: E402
from bench.cases import Case, convolution_reference, matmul_reference, sample  # noqa: E402
from bench.ours import Ours, make_model  # noqa: E402
from bench.side import Local, Remote  # noqa: E402
from bench.suites.gemm import case as product  # noqa: E402
from bench.suites.layers import case as layer  # noqa: E402

PLAIN = {"precision": "fp32", "layout": "NCHW", "mode": "eager"}


def test_the_roof_is_measured(device_session, monkeypatch):
    monkeypatch.setattr(roofline, "cache_bytes", lambda session: 4 << 20)
    monkeypatch.setattr(roofline, "_WORKING_SETS", (1 << 20, 4 << 20))
    roof = roofline.Roofline(device_session, {}, None)
    first = roof.peak("fp32")
    roof.look_again()
    assert roof.peak("fp32") >= first > 0 and roof.peak("tf32") is None
    assert roof.reach(1 << 20) >= roof.reach(1 << 30) > 0 and roof.bandwidth() > 0
    found = roof.to_json()
    assert found["gflops"]["fp32"] > 0 and set(found["reach_gbs"]) == {str(1 << 20), str(4 << 20), str(8 << 20)}
    assert roof.bound(10**9, 1, "fp32") == pytest.approx(1 / roof.peak("fp32"))
    assert roof.bound(1, 10**9, "fp32") == pytest.approx(1 / roof.reach(10**9))


def test_a_given_roof_is_not_measured(device_session, monkeypatch):
    roof = roofline.Roofline(device_session, {"fp32": 7.0}, 3.0)
    monkeypatch.setattr(roof, "_seconds", None)
    roof.look_again()
    assert roof.peak("fp32") == 7.0 and roof.bandwidth() == roof.reach(1) == 3.0


@pytest.fixture(scope="module")
def tinygrad(device):
    if importlib.util.find_spec("tinygrad") is None:
        pytest.skip("tinygrad is not installed")
    made = Remote("tinygrad", {"DEV": "CL", "BENCH_DEVICE": device.id}, limit=300)
    yield made
    made.close()


def test_tinygrad_opens_the_same_device(tinygrad, device):
    assert device.name in tinygrad.about["device"]


@pytest.mark.parametrize("case", [product(5, 7, 9, "TN", ""), *(layer((4, 6, 7, 3, 2, 1, 2), 2, kind, "")
                                                              for kind in ("fprop", "dgrad", "wgrad"))], ids=lambda c: c.kind)
def test_tinygrad_computes_what_the_case_says(case, tinygrad):
    handle, _ = tinygrad.prepare(case, PLAIN)
    indices = sample(int(np.prod(case.outputs[0])), 1)
    reference = matmul_reference if case.kind == "matmul" else convolution_reference
    np.testing.assert_allclose(tinygrad.values(handle, 0, indices), reference(case, indices), atol=1e-5)
    assert tinygrad.time(handle, 2) > 0
    tinygrad.release(handle)


def test_tinygrad_trains_as_clnn_does(tinygrad, device, tmp_path):
    settings = {"sizes": [12, 8, 3]}
    np.savez(tmp_path / "state.npz", **make_model("mlp", settings).state_dict())
    np.save(tmp_path / "target.npy", np.arange(4) % 3)
    params = {"model": "mlp", "options": settings, "state": str(tmp_path / "state.npz"), "target": str(tmp_path / "target.npy"),
              "lr": 0.1, "batch": 4}
    case = Case("mlp", "train", params, {"x": (4, 12)}, 0, 0, "mlp", outputs=((1,), (4, 3), (2,)))
    found = []
    for side in (tinygrad, Local(Ours(device))):
        handle, _ = side.prepare(case, PLAIN)
        found.append([side.values(handle, n, np.arange(int(np.prod(shape)))) for n, shape in enumerate(case.outputs)])
        side.release(handle)
    for theirs, ours in zip(*found, strict=True):
        np.testing.assert_allclose(theirs, ours, atol=1e-5)
