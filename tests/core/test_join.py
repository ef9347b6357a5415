"""Launches that become one on CPUs: which do, what each waits for, and the text of the kernel."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from clnn import ops
from clnn.codegen.joined import PLATFORMS, Joined, part_of
from clnn.codegen.template import render
from clnn.compiler import program
from clnn.config import config
from clnn.ir import Graph, TensorSpec
from clnn.models import mlp, resnet18
from clnn.optim import SGD
from clnn.passes import INFERENCE, run_passes
from clnn.plan import Location, make_plan
from clnn.plan.join import _waits
from clnn.target import GENERIC_CPU, GENERIC_GPU

CPU = replace(GENERIC_CPU, platform=PLATFORMS[0])


def plan_of(model, shape, target=CPU):
    graph, passes, _ = program(model, shape, "cross_entropy", SGD(lr=0.1, momentum=0.9))
    return make_plan(run_passes(graph, target, passes), target)


def launch(reads: str, writes: str):
    """Something that reads and writes arena tensors of 100 bytes, named by letters; capitals are the second half of one."""
    def places(names):
        return [Location("arena", None, 100 * (ord(name.lower()) - ord("a")) + 50 * name.isupper(), 50 if name.isupper() else 100)
                for name in names]
    return SimpleNamespace(arguments=(*places(reads), *places(writes)), written=places(writes))


def test_a_short_step_is_one_launch():
    plan = plan_of(mlp(784, 30, 10, seed=0), (32, 784))
    (join,) = plan.joins
    assert (join.first, join.last) == (0, len(plan.launches)) == (0, 7)
    assert plan.summary().startswith("7 launches, of which 7 are one, ")
    assert join.kernel.kernels == tuple(launch.kernel for launch in plan.launches)
    for launch, numbers in zip(plan.launches, join.kernel.arguments, strict=True):
        assert tuple(join.arguments[number] for number in numbers) == launch.arguments
    board = join.arguments[-1]
    assert board.kind == "board" and board.nbytes == join.kernel.board_bytes
    assert board.nbytes <= plan.board_bytes


def test_what_stays_apart():
    assert not plan_of(mlp(784, 30, 10, seed=0), (32, 784), GENERIC_GPU).joins
    assert not plan_of(mlp(784, 30, 10, seed=0), (32, 784), GENERIC_CPU).joins, "another platform"
    with config.override(join=False):
        assert not plan_of(mlp(784, 30, 10, seed=0), (32, 784)).joins
    graph, passes, _ = program(mlp(784, 30, 10, seed=0), (32, 784))
    assert not make_plan(run_passes(graph, CPU, passes), CPU, join=False).joins
    large = plan_of(mlp(784, 2048, 10, seed=0), (128, 784))        # its ends are long, what lies between is not
    (join,) = large.joins
    long = [number for number, launch in enumerate(large.launches) if launch.flops > 128_000_000]
    assert len(long) == 2 and long[0] < join.first and join.last <= long[1]
    assert not plan_of(resnet18(classes=10, size=32, seed=0), (32, 3, 32, 32)).joins


def test_each_waits_for_what_it_needs():
    assert _waits([launch("a", "b"), launch("b", "c"), launch("a", "d")]) == ((), (0,), ()), "reads what was written"
    assert _waits([launch("a", "b"), launch("c", "a")]) == ((), (0,)), "writes what was read"
    assert _waits([launch("a", "b"), launch("c", "b")]) == ((), (0,)), "writes what was written"
    assert _waits([launch("a", "b"), launch("a", "c")]) == ((), ()), "reads the same"
    assert _waits([launch("a", "b"), launch("b", "c"), launch("bc", "d")]) == ((), (0,), (1,)), "the first has ended before"
    assert _waits([launch("a", "b"), launch("a", "c"), launch("bc", "d")]) == ((), (), (1, 0))
    assert _waits([launch("a", "b"), launch("B", "c"), launch("d", "B")]) == ((), (0,), (1,)), "parts of the same bytes"


def test_boards_of_single_launches_do_not_count():
    board = Location("board", 0, 0, 8)
    one = SimpleNamespace(arguments=(board,), written=[board])
    assert _waits([one, one]) == ((), ())


def test_the_text_of_a_joined_kernel():
    kernel = plan_of(mlp(784, 30, 10, seed=0), (32, 784), replace(CPU, compute_units=3)).joins[0].kernel
    name, text = kernel.text
    assert text.count("__kernel") == 1 and f"void {name}(" in text and kernel.global_size == (3, 1, 1)
    assert text.count("atomic_add(board + ") == text.count("atomic_add(drawn, ") == 7 and "== 2)" in text
    assert "get_group_id(0)" not in text.split("__kernel")[1]
    assert replace(kernel, cores=2).text[0] != name, "other cores, other text"
    for cores, leaving in ((1, 0), (2, 1), (3, 1), (8, 2), (64, 16)):
        assert f"if (gone < {leaving} && " in replace(kernel, cores=cores).text[1], "most stay"
    twice = Joined(kernel.kernels[:1] * 2, kernel.arguments[:1] * 2, ((), (0,)), 2)
    assert twice.text[1].count("void gemm_packed") == 1, "equal kernels are one function"


def test_kernels_that_cannot_be_joined():
    def kernels(function, *shapes, target=GENERIC_CPU, **choices):
        graph = Graph()
        graph.outputs = [function(*(graph.input(TensorSpec(shape), f"x{i}") for i, shape in enumerate(shapes)))]
        with config.override(**choices):
            return [launch.kernel for node in run_passes(graph, target, INFERENCE).nodes for launch in node.offer.launches]

    (product,) = kernels(ops.matmul, (64, 32), (32, 48))
    part = part_of(product)
    assert part.groups > 1 and part.local_bytes and "atomic" not in part.text and "atomic" in render(product)[1]
    assert part_of(kernels(lambda x: ops.sum(x, 1), (64, 32))[0]).local_bytes == 0
    for kernel in kernels(ops.matmul, (64, 32), (32, 48), target=GENERIC_GPU):
        assert part_of(kernel) is None, "its work-groups have many items"
    convolution = kernels(lambda x, w: ops.conv2d(x, w, padding=1), (2, 3, 16, 16), (8, 3, 3, 3),
                          lowering={"Conv2d": "direct_planes"})
    assert [part_of(kernel) for kernel in convolution] == [None], "its array in local memory is not known"


@pytest.mark.parametrize("number", range(3))
def test_what_a_launch_writes(number):
    plan = plan_of(mlp(784, 30, 10, seed=0), (32, 784))
    launch = plan.launches[number]
    assert all(place in launch.arguments for place in launch.written)
    outputs = [plan.locations[value] for value in launch.node.outputs if value in plan.locations]
    assert set(outputs) <= set(launch.written)
