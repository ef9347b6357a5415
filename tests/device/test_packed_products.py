"""Products on CPUs whose operands are packed once, before: the same numbers, whichever of them are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from harness import run_offer

from clnn.codegen.expr import arg
from clnn.codegen.joined import PLATFORMS
from clnn.codegen.store import Store
from clnn.codegen.template import declaration, render
from clnn.config import config
from clnn.ir import Graph, TensorSpec
from clnn.ops import Matmul
from clnn.plan import make_plan
from clnn.runtime.executable import Executable
from clnn.target import GENERIC_CPU


def packed(op, inputs, target, **config):
    lowering = next(lowering for lowering in op.lowerings if lowering.name == "packed")
    return lowering.offer(op, inputs, op.infer(*inputs), target, config=config, forced=True)


def specs(form, m, n, k, lead=()):
    a, b = (k, m) if form[0] == "T" else (m, k), (n, k) if form[1] == "T" else (k, n)
    return Matmul(form[0] == "T", form[1] == "T"), (TensorSpec((*lead, *a)), TensorSpec((*lead, *b)))


@pytest.mark.parametrize("form", ["NN", "NT", "TN", "TT"])
@pytest.mark.parametrize(("which", "m", "n", "k", "lead", "more"),
                         [("a", 50, 70, 131, (), {}), ("b", 50, 70, 131, (), {}), ("ab", 13, 33, 300, (2,), {"splits": 4}),
                          ("ab", 50, 70, 131, (), {"gemm/pack": declaration("gemm/pack").odd()}),
                          ("ab", 50, 70, 131, (), {"gemm/pack": {"DEPTH": 8, "COLUMNS": 1024}}), ("ab", 1030, 70, 520, (), {})])
def test_same_product(form, which, m, n, k, lead, more, device_session):
    op, inputs = specs(form, m, n, k, lead)
    rng = np.random.default_rng(7)
    arrays = [rng.standard_normal(spec.shape).astype(np.float32) for spec in inputs]
    offer = packed(op, inputs, device_session.target, prepack=which, **more)
    assert sum(launch.kernel.template == "gemm/pack" for launch in offer.launches) == len(which)
    got = run_offer(op, offer, arrays, inputs, op.infer(*inputs), device_session)[0]
    expected = op.reference(*(a.astype(np.float64) for a in arrays))[0]
    assert np.abs(got - expected).max() < 1e-5 * np.sqrt(k)


@pytest.mark.parametrize(("m", "n", "k", "lead", "more"), [
    (50, 70, 131, (), {}), (13, 33, 300, (2,), {"splits": 4}), (50, 70, 131, (), {"KC": 64, "MC": 12, "MB": 12, "NC": 16})])
def test_sums_of_rows_from_panels(m, n, k, lead, more, device_session):
    op, (_, inputs) = Matmul(True, False, row_sum=True), specs("TN", m, n, k, lead)
    rng = np.random.default_rng(8)
    arrays = [rng.standard_normal(spec.shape).astype(np.float32) for spec in inputs]
    offer = packed(op, inputs, device_session.target, prepack="a", **more)
    assert offer.launches[0].kernel.template == "gemm/pack"
    expected = op.reference(*(a.astype(np.float64) for a in arrays))
    for got, wanted in zip(run_offer(op, offer, arrays, inputs, op.infer(*inputs), device_session), expected, strict=True):
        assert np.abs(got - wanted).max() < 1e-5 * np.sqrt(k)


def test_gradients_pack_once_where_launches_are_joined():
    """A, in tiles of which each core has rows of its own; as a launch of its own that would not pay."""
    def launches(platform):
        target = replace(GENERIC_CPU, platform=platform, compute_units=2, local_memory=512 << 10)
        found = packed(Matmul(True, False, row_sum=True), specs("TN", 512, 784, 128)[1], target).launches
        return [launch.kernel.template for launch in found], found[-1].kernel.t

    templates, tile = launches(PLATFORMS[0])
    assert templates == ["gemm/pack", "gemm/packed"] and (tile.MC, tile.NC) == (258, 112)
    assert launches("another")[0] == ["gemm/packed"]


def test_long_rows_are_packed_whole():
    def pack(form, n, **facts):
        target = replace(GENERIC_CPU, **{"local_memory": 512 << 10} | facts)
        return packed(*specs(form, n, n, n), target, prepack="a").launches[0].kernel.t

    assert (pack("TN", 2048).DEPTH, pack("TN", 2048).COLUMNS) == (8, 2048)
    assert (pack("TN", 1024).DEPTH, pack("TN", 1024).COLUMNS) == (8, 1024)
    assert pack("NN", 2048).DEPTH == 64, "the rows that are packed lie across memory"
    assert pack("TN", 500).DEPTH == pack("TN", 2048, local_memory=32 << 10).DEPTH == 64


def test_large_products_pack_once():
    for form, which in (("NN", "b"), ("NT", "b"), ("TN", "ab"), ("TT", "ab")):
        op, inputs = specs(form, 2048, 2048, 2048)
        offer = packed(op, inputs, GENERIC_CPU)
        choice = next(choice for choice in offer.choices if choice.name == "prepack")
        assert choice.value in (which, which[::-1]), form
        assert [launch.kernel.template for launch in offer.launches] == [*["gemm/pack"] * len(which), "gemm/packed"]
    with config.override(workspace=1):      # rather packed over and over than refused
        assert [launch.kernel.template for launch in packed(op, inputs, GENERIC_CPU).launches] == ["gemm/packed"]
    op, inputs = specs("NN", 128, 512, 784)
    assert [launch.kernel.template for launch in packed(op, inputs, GENERIC_CPU).launches] == ["gemm/packed"]


def test_small_products_are_cut_so_that_little_is_packed_twice():
    target = replace(GENERIC_CPU, compute_units=2, local_memory=512 << 10)

    def tile(form, m, n, k):
        kernel = packed(*specs(form, m, n, k), target).launches[-1].kernel
        assert -(-m // kernel.t.MC) * -(-n // kernel.t.NC) >= 4, "every core gets two tiles"
        return kernel.t

    assert tile("NT", 128, 512, 784).MC == 132, "all rows in a tile: nothing of B is packed twice"
    assert tile("NT", 128, 512, 784).KC == 784, "one panel, whose sums stay in registers"
    assert tile("NT", 128, 512, 1536).KC == 256, "too deep for that: panels of equal depth"
    assert tile("TN", 512, 784, 128).NC == 400, "A is packed, too: tiles are large"
    small = packed(*specs("NT", 128, 512, 784), replace(target, local_memory=32 << 10)).launches[-1].kernel
    assert 4 * small.t.KC * small.t.NC <= 32 << 10


def test_long_sums_stay_in_registers():
    """Where A is read as it lies, or from panels, B is narrow and so deep as the sum: packed where it is used."""
    target = replace(GENERIC_CPU, compute_units=2, local_memory=512 << 10)

    def launches(form, n):
        found = packed(*specs(form, n, n, n), target).launches
        t = found[-1].kernel.t
        return [launch.kernel.template for launch in found], (t.MC, t.NC, t.KC)

    for form in ("NN", "NT"):
        assert launches(form, 1024) == (["gemm/packed"], (1026, 32, 1024))
        assert launches(form, 2048) == (["gemm/packed"], (1026, 32, 2048))
    for form in ("TN", "TT"):
        assert launches(form, 2048) == (["gemm/pack", "gemm/packed"], (1026, 32, 2048))
    assert launches("NN", 4096) == (["gemm/pack", "gemm/packed"], (378, 32, 1024))      # many rows: B once, for all of them
    assert launches("NN", 960)[1][2] < 960


@pytest.mark.parametrize("cores", [1, 2, 3])
def test_cores_draw_tiles_anew_in_each_run(cores, device_session):
    """Every tile is drawn once, and the board is all zeros again; on a device of other cores, too."""
    op, inputs = specs("NN", 50, 70, 30)
    offer = packed(op, inputs, replace(device_session.target, compute_units=cores), MC=12, MB=12, NC=16)
    kernel = offer.launches[-1].kernel
    assert kernel.global_size == ((cores, 1, 1) if cores > 1 else (5, 5, 1))
    assert ("atomic_inc" in render(kernel)[1]) == (cores > 1)
    graph = Graph()
    values = [graph.input(spec, f"x{i}") for i, spec in enumerate(inputs)]
    node = graph.append(op, values, op.infer(*inputs))
    node.offer, node.lowering, graph.outputs = offer, "packed", list(node.outputs)
    executable = Executable(make_plan(graph, device_session.target), device_session)
    (board,) = (location for launch in executable.plan.launches for location in launch.arguments if location.kind == "board")
    for seed in range(3):
        rng = np.random.default_rng(seed)
        arrays = [rng.standard_normal(spec.shape).astype(np.float32) for spec in inputs]
        for value, array in zip(values, arrays, strict=True):
            executable.write(value.name, array)
        executable.run()
        expected = op.reference(*(a.astype(np.float64) for a in arrays))[0]
        assert np.abs(executable.read(node.outputs[0]) - expected).max() < 1e-4
        left = np.ones(board.nbytes // 4, np.int32)
        device_session.download(executable.buffer(board), left)
        assert not left.any()


def test_few_tiles_are_not_drawn():
    op, inputs = specs("NN", 12, 16, 30)
    assert "atomic_inc" not in render(packed(op, inputs, GENERIC_CPU).launches[-1].kernel)[1]


@pytest.mark.parametrize("knows", [True, False])
def test_what_an_update_reads_is_asked_for_ahead(knows):
    op, inputs = specs("TN", 512, 784, 128)
    target = replace(GENERIC_CPU, features=frozenset({"prefetch"} if knows else ()))
    kernel = packed(op, inputs, target).launches[-1].kernel
    result = TensorSpec((512, 784))
    updated = replace(kernel, stores=(("c", Store(result, (arg(1) - arg(0),), (result,))),))
    assert "__builtin_prefetch" not in render(kernel)[1], "a plain product reads nothing where it stores"
    assert ("__builtin_prefetch((const void*)(size_t)(c_in0 + ct + 0))" in render(updated)[1]) == knows


def test_large_caches_take_large_tiles():
    """As long as every core gets the same number of them."""
    def tile(n, **facts):
        target = replace(GENERIC_CPU, vector_width=16, compute_units=2, **facts)
        kernel = packed(*specs("NN", n, n, n), target).launches[-1].kernel
        return kernel.t.MC, kernel.t.NC, kernel.t.KC
    assert tile(1024, local_memory=1 << 20) == (256, 288, 256)      # whole panels, as B is packed before
    assert tile(1024, local_memory=2 << 20) == (1024, 128, 1024)
    assert tile(2048, local_memory=2 << 20) == (2048, 128, 2048) and tile(4096, local_memory=2 << 20) == (2048, 128, 1024)
    assert tile(960, local_memory=2 << 20) == (960, 240, 512)
    assert tile(768, local_memory=2 << 20) == (384, 256, 512)       # three would leave a core idle


@pytest.mark.parametrize("form", ["NN", "TT"])
@pytest.mark.parametrize(("m", "n", "k"), [(12, 48, 8), (481, 144, 17), (7, 384, 32), (24, 96, 5000), (130, 250, 4097),
                                           (50, 49, 70), (33, 196, 300), (20, 800, 40), (20, 800, 600)])
def test_shallow_deep_and_narrow_products(form, m, n, k, device_session):
    """Deep ones with a small result cut the sum, and the last panels of a tile may be narrow: the same product."""
    op, inputs = specs(form, m, n, k)
    rng = np.random.default_rng(8)
    arrays = [rng.standard_normal(spec.shape).astype(np.float32) for spec in inputs]
    got = run_offer(op, packed(op, inputs, device_session.target), arrays, inputs, op.infer(*inputs), device_session)[0]
    expected = op.reference(*(a.astype(np.float64) for a in arrays))[0]
    assert np.abs(got - expected).max() < 1e-5 * np.sqrt(k)


def test_blocks_and_cuts_follow_from_the_sizes():
    def last(m, n, k, width=16, local=1 << 20):
        op, inputs = specs("NN", m, n, k)
        offer = packed(op, inputs, replace(GENERIC_CPU, compute_units=2, vector_width=width, local_memory=local))
        (main,) = (launch for launch in offer.launches if launch.kernel.template == "gemm/packed")
        return main.kernel.t, main.kernel.p.splits

    assert last(5000, 96, 16)[0].NV == 3 and last(5000, 96, 16, width=8)[0].NV == 1 and last(5000, 96, 64)[0].NV == 3
    assert last(5000, 64, 64)[0].NV == 2 and last(5000, 16, 64)[0].NV == 1         # what leaves the last panel least narrow
    assert last(12544, 192, 32, local=1 << 19)[0].NV == 3       # smaller panels rather than a refusal
    assert last(128, 256, 50176)[1] == 4 and last(128, 512, 50176)[1] == 1
