"""Which lowerings a GPU takes where matrices are narrow, without measurements: all shapes are of known networks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from clnn.codegen.views import View, Window, matrix
from clnn.ir import NHWC, ROW, Graph, TensorSpec
from clnn.ops import Conv2d, Conv2dDgrad, Conv2dWgrad, Matmul
from clnn.ops.gemm import Gemm, choose_tile
from clnn.passes.choose_lowerings import offer_for
from clnn.target import GENERIC_GPU

GPU = replace(GENERIC_GPU, compute_units=132)
#: channels, filters, image, filter size, stride, padding, groups → lowerings of fprop, dgrad and wgrad
CONVOLUTIONS = {
    (3, 64, 224, 3, 1, 1, 1): ("strips", "strips", "strips"),
    (3, 64, 224, 7, 2, 3, 1): ("strips", "strips", "strips"),
    (3, 64, 224, 11, 4, 2, 1): ("implicit_gemm", "strips", "strips"),
    (64, 3, 224, 3, 1, 1, 1): ("strips", "strips", "implicit_gemm"),
    (128, 128, 56, 3, 1, 1, 32): ("strips", "strips", "strips"),
    (144, 144, 56, 3, 1, 1, 144): ("depthwise", "depthwise", "depthwise"),
    (64, 64, 56, 3, 1, 1, 1): ("winograd", "winograd", "winograd"),
    (64, 256, 56, 1, 1, 0, 1): ("implicit_gemm", "implicit_gemm", "implicit_gemm"),
    (96, 96, 27, 5, 1, 2, 2): ("winograd", "winograd", "winograd"),
    (96, 96, 27, 7, 1, 3, 2): ("implicit_gemm", "implicit_gemm", "implicit_gemm"),
}


def chosen(op, *inputs) -> str:
    graph = Graph()
    node = graph.append(op, [graph.input(spec, f"x{i}") for i, spec in enumerate(inputs)], op.infer(*inputs))
    offer_for(node, GPU)
    return node.lowering


@pytest.mark.parametrize("layer", CONVOLUTIONS, ids=str)
def test_convolutions(layer):
    channels, made, size, window, stride, padding, groups = layer
    op = Conv2d((stride, stride), (padding,) * 4, (1, 1), groups)
    x, w = TensorSpec((64, channels, size, size)), TensorSpec((made, channels // groups, window, window))
    y = op.infer(x, w)[0]
    found = (chosen(op, x, w), chosen(Conv2dDgrad(**op.attributes(), size=(size, size)), y, w),
             chosen(Conv2dWgrad(**op.attributes(), window=(window, window)), x, y))
    assert found == CONVOLUTIONS[layer]


@pytest.mark.parametrize("layout, lowering", [(ROW, "col2im"), (NHWC, "implicit_gemm")], ids=str)
def test_strided_gradients_store_along_memory(layout, lowering):
    op = Conv2d((2, 2), (0,) * 4)
    x, w = TensorSpec((64, 256, 56, 56), layout=layout), TensorSpec((512, 256, 1, 1))
    dy = op.infer(x, w)[0].with_layout(layout)
    graph = Graph()
    node = graph.append(Conv2dDgrad(**op.attributes(), size=(56, 56)), [graph.input(dy, "dy"), graph.input(w, "w")], (x,))
    offer_for(node, GPU)
    assert node.lowering == lowering


@pytest.mark.parametrize("m, n, lowering", [(1, 4096, "vector"), (4096, 1, "vector"), (4, 4096, "vector"), (64, 4096, "tiled")])
def test_products(m, n, lowering):
    assert chosen(Matmul(), TensorSpec((m, 1024)), TensorSpec((1024, n))) == lowering
    assert chosen(Matmul(True, True), TensorSpec((1024, m)), TensorSpec((n, 1024))) == lowering


@pytest.mark.parametrize("m, n, k, share", [(64, 4096, 25088, 0.75), (64, 25088, 4096, 0.75), (64, 4096, 4096, 0.75),
                                            (64, 64, 65536, 0.48), (1024, 1024, 1024, 0.75)])
def test_tiles_of_flat_products_keep_every_unit_busy(m, n, k, share):
    tile, splits = choose_tile(Gemm(matrix(m, k, k, 1), matrix(k, n, n, 1), matrix(m, n, n, 1)), GPU)
    groups = -(-m // tile["BM"]) * -(-n // tile["BN"]) * splits
    items = groups * tile["BM"] // tile["TM"] * tile["BN"] // tile["TN"]
    assert groups >= 0.9 * GPU.compute_units
    assert items >= share * 256 * GPU.compute_units
    assert splits == 1 or k // splits >= 128


def test_products_that_gather_are_split_until_units_are_awake():
    """512 channels of 64 images of 4 × 4, windows of 3 × 3 over 256 channels: tiles that just cover the units let them wait."""
    m, n, k = 512, 1024, 2304
    b = matrix(k, n, n, 1)
    gathered = View(b.rows, b.cols, Window(n, k, 1, 1))
    tile, splits = choose_tile(Gemm(matrix(m, k, k, 1), gathered, matrix(m, n, n, 1)), GPU)
    items = -(-m // tile["BM"]) * -(-n // tile["BN"]) * splits * tile["BM"] // tile["TM"] * tile["BN"] // tile["TN"]
    assert splits > 1 and items >= 200 * GPU.compute_units


MEASURED_TILES = json.loads((Path(__file__).parent / "measured_tiles.json").read_text())["problems"]


def product(problem: dict) -> Gemm:
    """A product of these sizes whose operands lie so."""
    (m, n, k), lie = problem["mnk"], problem["lie"]
    a = matrix(m, k, 1, m) if lie == "turned" else matrix(m, k, k, 1)
    b = matrix(k, n, 1, k) if lie == "deep" else matrix(k, n, n, 1)
    if lie == "window":
        b = View(b.rows, b.cols, Window(n, k, 1, 1))
    return Gemm(a, b, matrix(m, n, n, 1), problem["batch"])


@pytest.mark.parametrize(("network", "allowed"), [("resnet50", 1.04), ("mobilenet_v2", 1.08), ("lenet5", 1.15), ("mlp", 1.1)])
def test_tiles_are_near_the_best_that_were_measured(network, allowed):
    chosen = best = 0.0
    for problem in MEASURED_TILES:
        if problem["network"] == network:
            tile, splits = choose_tile(product(problem), GPU, problem["tail"])
            times = {tuple(trial): seconds for seconds, *trial in problem["trials"]}
            mine = times.get((splits, *(tile[name] for name in ("BM", "BN", "BK", "TM", "TN", "UNROLL", "STAGES"))))
            if mine is not None or splits in {trial[0] for trial in times}:     # else these splits were not tried with any tile
                best += problem["count"] * min(times.values())
                chosen += problem["count"] * (mine if mine is not None else 1.5 * min(times.values()))
    assert best < chosen <= allowed * best
