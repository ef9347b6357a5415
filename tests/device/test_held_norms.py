"""Batch normalisation that reads memory once: groups that hold a part each and hand on what it sums up to, also where a device
does not run all of them at a time, as CPUs do not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from harness import check_close, run_offer

from clnn import ops
from clnn.codegen.expr import arg
from clnn.codegen.held import PAIRS, SINGLE, default_size
from clnn.codegen.lowering import Tail, attach_tails
from clnn.codegen.template import render
from clnn.errors import LoweringError
from clnn.ir import NHWC, ROW, Graph, TensorSpec, Variable
from clnn.plan import make_plan
from clnn.plan.schedule import overwrites_in_place
from clnn.runtime import Executable
from clnn.target import GENERIC_CPU, GENERIC_GPU

FORWARD, GRADIENT = ops.BatchNorm(1e-5), ops.BatchNormGrad(1e-5)
GPU = replace(GENERIC_GPU, features=frozenset({"resident"}), compute_units=132, local_memory=49152)
ROOMY_GPU = replace(GPU, features=frozenset({"resident", "resident_twice"}))


def held(op):
    return next(lowering for lowering in op.lowerings if lowering.name == "held")


def specs(op, shape, layout=ROW):
    image, vector = TensorSpec(shape, layout=layout), TensorSpec(shape[1:2])
    inputs = (image, vector, vector) if op is FORWARD else (image, image, vector, vector, vector)
    return inputs, (image, vector, vector)


def arrays_for(op, shape, mean: float = 0.0):
    rng = np.random.default_rng(3)
    x, gamma, beta = (rng.standard_normal(s).astype(np.float32) for s in (shape, shape[1:2], shape[1:2]))
    x += np.float32(mean)
    if op is FORWARD:
        return [x, gamma, beta]
    wide = x.astype(np.float64)
    return [rng.standard_normal(shape).astype(np.float32), x, wide.mean((0, 2, 3)).astype(np.float32),
            wide.var((0, 2, 3)).astype(np.float32), gamma]


@pytest.mark.parametrize("op, kept", [(op, {"KEPT": kept}) for op in (FORWARD, GRADIENT) for kept in (0, 1)],
                         ids=["forward", "forward, half in local memory", "gradient", "gradient, x in local memory"])
@pytest.mark.parametrize("shape, layout, size, vector, parts", [
    ((32, 2, 28, 28), ROW, "64x4", 4, 98),         # joined in three steps, the second of which is not full
    ((9, 3, 30, 31), ROW, "64x8", 2, 17),          # the last part is not full
    ((5, 3, 7, 7), ROW, "64x4", 1, 1),
    ((4, 40, 9, 9), NHWC, "64x4", 1, 41),          # two blocks of channels, the second not full
    ((3, 24, 5, 5), NHWC, "128x8", 1, 2),
])
def test_agrees_with_the_reference(op, kept, shape, layout, size, vector, parts, device_session):
    inputs, outputs = specs(op, shape, layout)
    arrays = arrays_for(op, shape)
    offer = held(op).offer(op, inputs, outputs, GPU, {"size": size, "VECTOR": vector, **kept}, forced=True)
    assert offer.launches[-1].kernel.p.parts == parts and len(offer.boards) == (0 if parts == 1 else 1)
    got = run_offer(op, offer, arrays, inputs, outputs, device_session)
    expected = op.reference(*(a.astype(np.float64) for a in arrays))
    for number, (g, e) in enumerate(zip(got, expected, strict=True)):
        check_close(g, e, 1e-5, f"output {number}")
    again = run_offer(op, offer, arrays, inputs, outputs, device_session)
    assert all(np.array_equal(g, a) for g, a in zip(got, again, strict=True)), "who sums up a part must not matter"


@pytest.mark.parametrize("op", [FORWARD, GRADIENT], ids=["forward", "gradient"])
@pytest.mark.parametrize("shape, layout", [((32, 5, 28, 28), ROW), ((4, 100, 9, 9), NHWC)], ids=["planes", "blocks of channels"])
def test_who_takes_turns_finds_the_same(op, shape, layout, device_session):
    inputs, outputs = specs(op, shape, layout)
    arrays = arrays_for(op, shape)
    results = []
    for reading in (0, 2):
        offer = held(op).offer(op, inputs, outputs, GPU, {"size": "64x4", "READING": reading}, forced=True)
        assert ("turn" in render(offer.launches[-1].kernel)[1]) == bool(reading)
        results.append(run_offer(op, offer, arrays, inputs, outputs, device_session))
    assert all(np.array_equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("reading", [0, 2, 3])
@pytest.mark.parametrize("op", [FORWARD, GRADIENT], ids=["forward", "gradient"])
@pytest.mark.parametrize("shape, layout", [((32, 5, 28, 28), ROW), ((4, 100, 9, 9), NHWC)], ids=["planes", "blocks of channels"])
def test_a_run_leaves_the_board_to_the_next(op, shape, layout, reading, device_session):
    """All zeros after each run, so that the next finds only what was told in it."""
    inputs, outputs = specs(op, shape, layout)
    offer = held(op).offer(op, inputs, outputs, GPU, {"size": "64x4", "READING": reading}, forced=True)
    graph = Graph()
    values = [graph.input(spec, f"x{i}") for i, spec in enumerate(inputs)]
    node = graph.append(op, values, outputs)
    node.offer, node.lowering, graph.outputs = offer, "held", list(node.outputs)
    executable = Executable(make_plan(graph, device_session.target), device_session)
    (board,) = (location for launch in executable.plan.launches for location in launch.arguments if location.kind == "board")
    assert executable.plan.board_bytes == board.nbytes > 0
    for scale in (1.0, 3.0, 0.5):
        arrays = [array * np.float32(scale) for array in arrays_for(op, shape)]
        for value, array in zip(values, arrays, strict=True):
            executable.write(value.name, array)
        executable.run()
        for got, expected in zip(node.outputs, op.reference(*(a.astype(np.float64) for a in arrays)), strict=True):
            check_close(executable.read(got), expected, 1e-5, f"scaled by {scale}")
        left = np.ones(board.nbytes // 4, np.int32)
        device_session.download(executable.buffer(board), left)
        assert not left.any()


def test_channels_take_turns_where_few_are_held_at_a_time():
    def reading(shape, op=GRADIENT, target=ROOMY_GPU):
        kernel = held(op).offer(op, *specs(op, shape), target).launches[-1].kernel
        return kernel.p.parts, kernel.t.READING
    assert reading((64, 512, 28, 28)) == (13, 0)          # seventy channels: some are read while others wait
    assert reading((96, 64, 112, 112)) == (168, 2)        # three, of which two are read
    assert reading((64, 64, 112, 112)) == (112, 3)
    assert reading((96, 64, 112, 112), FORWARD) == (74, 3)
    assert reading((96, 256, 56, 56), FORWARD) == (19, 0)
    assert reading((5, 3, 7, 7)) == (1, 0)


def test_a_large_mean_costs_no_accuracy(device_session):
    shape = (16, 2, 15, 16)
    inputs, outputs = specs(FORWARD, shape)
    arrays = arrays_for(FORWARD, shape, 1000.0)
    offer = held(FORWARD).offer(FORWARD, inputs, outputs, GPU, {"size": "64x8"}, forced=True)
    got = run_offer(FORWARD, offer, arrays, inputs, outputs, device_session)
    for number, (g, e) in enumerate(zip(got, FORWARD.reference(*(a.astype(np.float64) for a in arrays)), strict=True)):
        check_close(g, e, 1e-4, f"output {number}")


@pytest.mark.parametrize("size", ["64x4", "512x16", "128x32"])
def test_the_weight_may_be_overwritten_by_its_update(size, device_session):
    """With several parts, some groups still need the weight when its update is stored."""
    shape = (12, 3, 16, 16)
    inputs, outputs = specs(GRADIENT, shape)
    arrays = arrays_for(GRADIENT, shape)
    gamma = Variable(arrays[4].copy(), "gamma")
    graph = Graph()
    old = graph.variable(gamma)
    values = [graph.input(spec, f"x{i}") for i, spec in enumerate(inputs[:4])]
    node = graph.append(GRADIENT, [*values, old, old], outputs)
    offer = held(GRADIENT).offer(GRADIENT, inputs, outputs, GPU, {"size": size}, forced=True)
    tail = Tail((arg(1) - arg(0) * 0.1,), (inputs[4],), (inputs[4],))
    node.offer, node.lowering = attach_tails(offer, {1: tail}, len(inputs), len(outputs)), "held"
    graph.outputs, graph.updates = [node.outputs[0]], {old: node.outputs[1]}
    assert overwrites_in_place(old, node.outputs[1])
    executable = Executable(make_plan(graph, device_session.target), device_session)
    wide = [a.astype(np.float64) for a in arrays]
    for _ in range(3):
        for value, array in zip(values, arrays, strict=False):
            executable.write(value.name, array)
        executable.run()
        dx, dgamma, _ = GRADIENT.reference(*wide)
        check_close(executable.read(node.outputs[0]), dx, 1e-5, "gradient of x")
        wide[4] = wide[4] - 0.1 * dgamma
        check_close(device_session.pull(gamma), wide[4], 1e-5, "the updated weight")
    device_session.release([gamma])


@pytest.mark.parametrize("shape, target, reason", [
    ((64, 64, 56, 56), GENERIC_CPU, "a CPU runs a work-group from start to end"),
    ((64, 64, 56, 56), GPU.without("resident"), "needs the feature resident"),
    ((64, 2, 512, 512), GPU, "a channel needs 820 groups that hold it, of which 132 run at a time"),
    ((64, 2, 512, 512), ROOMY_GPU, "a channel needs 820 groups that hold it, of which 264 run at a time"),
    ((64, 64, 56, 56), GPU, None),
    ((16, 64, 7, 7), GPU.without("resident"), None),        # one group holds a whole channel
])
def test_refusals_say_why(shape, target, reason):
    inputs, outputs = specs(FORWARD, shape)
    if reason is None:
        assert held(FORWARD).offer(FORWARD, inputs, outputs, target).launches
    else:
        with pytest.raises(LoweringError) as caught:
            held(FORWARD).offer(FORWARD, inputs, outputs, target)
        assert reason in caught.value.what


def test_sizes_of_groups():
    assert default_size(512, 64, 49, SINGLE, GPU) == (256, 16)          # the first that holds a channel of 3136
    assert default_size(256, 64, 3136, SINGLE, GPU) == (128, 32)        # 49 parts, where 128 x 128 makes only 13
    assert default_size(64, 64, 12544, SINGLE, ROOMY_GPU) == (128, 128) # 49 parts
    assert default_size(64, 64, 12544, SINGLE, GPU) == (128, 64)        # 98 parts, where 128 x 32 makes 196
    assert default_size(64, 64, 12543, SINGLE, GPU) == (256, 32)        # 98 parts, loaded by single elements
    assert default_size(256, 64, 3136, PAIRS, GPU) == (128, 32)         # 49 parts, with two tensors held
    assert default_size(64, 64, 12544, PAIRS, GPU) == (128, 56)         # 112 parts
    assert default_size(64, 96, 12544, PAIRS, GPU) == (256, 40)         # 118 parts, where 128 x 56 makes 168
    assert default_size(64, 96, 12544, PAIRS, ROOMY_GPU) == (128, 56)   # two groups on a unit


def test_what_does_not_fit_local_memory_is_not_offered():
    small = replace(GPU, local_memory=32768)
    assert default_size(64, 64, 3136, PAIRS, GPU) == default_size(64, 64, 3136, PAIRS, small) == (128, 32)       # 49 parts
    assert default_size(64, 64, 12544, SINGLE, small) == (128, 64)
    inputs, outputs = specs(GRADIENT, (64, 64, 112, 112))
    for target, expected in ((GPU, ("512x16", "128x48", "128x56", "256x40")), (small, ("512x16", "128x48", "128x56"))):
        (size,) = held(GRADIENT).offer(GRADIENT, inputs, outputs, target).choices
        assert tuple(sorted(size.values)) == tuple(sorted(expected))


def test_no_size_needs_more_groups_than_run_at_a_time():
    inputs, outputs = specs(FORWARD, (64, 64, 112, 112))
    (size,) = held(FORWARD).offer(FORWARD, inputs, outputs, GPU).choices
    assert size.values == ("128x64", "512x16", "128x128", "512x32", "512x40")
    with pytest.raises(LoweringError, match="the choice size cannot be '64x4' here"):
        held(FORWARD).offer(FORWARD, inputs, outputs, GPU, {"size": "64x4"})
