"""Plans: the order around updates in place, the places of tensors, and how many launches a training step takes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from random_graphs import random_training_graph

from clnn import ops
from clnn.compiler import append_training
from clnn.ir import Graph, TensorSpec, Variable
from clnn.models import lenet5, mlp, resnet18
from clnn.ops.step import StepState, end_step, gather_batch
from clnn.optim import SGD, Adam
from clnn.passes import TRAINING, run_passes
from clnn.plan import make_plan, schedule
from clnn.plan.memory import Lifetime, place, share
from clnn.plan.schedule import storage_root
from clnn.target import GENERIC_CPU, GENERIC_GPU

TARGETS = {"cpu": GENERIC_CPU, "gpu": GENERIC_GPU, "large gpu": replace(GENERIC_GPU, compute_units=132)}


def begin(*shapes: tuple[int, ...]) -> tuple[Graph, ...]:
    graph = Graph()
    return graph, *(graph.input(TensorSpec(shape), f"x{i}") for i, shape in enumerate(shapes))


def variable(graph: Graph, name: str, *shape: int):
    return graph.variable(Variable(np.zeros(shape, np.float32), name))


def ready(graph: Graph, target=GENERIC_CPU) -> Graph:
    return run_passes(graph, target, TRAINING)


# -- the order ----------------------------------------------------------------------------------------------------------

def test_readers_come_before_the_update_in_place():
    """The update is traced first; all who read the old value still run before it."""
    graph, x = begin((8, 8))
    state = variable(graph, "state", 8, 8)
    graph.updates[state] = ops.add(state, x)
    graph.outputs = [ops.matmul(state, x), ops.sum(state)]
    graph = ready(graph)
    order, in_place = schedule(graph)
    (old, new), = graph.updates.items()
    assert in_place == {new: old}
    last = order.index(new.node)
    assert all(order.index(node) < last for node in order if node is not new.node and old in node.inputs)
    plan = make_plan(graph, GENERIC_CPU)
    assert plan.locations[new] == plan.locations[old]
    assert not any(launch.name.startswith("update of") for launch in plan.launches)


def test_a_reader_that_needs_the_new_value_makes_a_copy_at_the_end():
    """old · new cannot run before new is made, nor after old is overwritten."""
    graph, x = begin((8, 8))
    state = variable(graph, "state", 8, 8)
    new = ops.matmul(x, x)
    graph.updates[state] = new
    graph.outputs = [ops.matmul(new, state)]
    graph = ready(graph)
    _, in_place = schedule(graph)
    assert in_place == {}
    plan = make_plan(graph, GENERIC_CPU)
    assert plan.launches[-1].name.startswith("update of state")
    assert plan.launches[-1].arguments[-1].key is graph.variables[0].source
    assert all(state_of.kind != "variable" for launch in plan.launches[:-1] for state_of in launch.arguments[-1:])


def test_a_transposed_read_is_not_overwritten():
    """new = x · oldᵀ reads elements of old that other work-items have written by then."""
    graph, x = begin((8, 8))
    state = variable(graph, "state", 8, 8)
    graph.updates[state] = ops.matmul(x, ops.transpose(state, (1, 0)))
    graph.outputs = [ops.sum(x)]
    other = variable(graph, "other", 8, 8)
    graph.updates[other] = ops.linear(x, other)
    graph = ready(graph)
    _, in_place = schedule(graph)
    assert all(old.name != "other" for old in in_place.values())


def test_two_variables_with_one_new_value_are_copied():
    graph, x = begin((5,))
    a, b = variable(graph, "a", 5), variable(graph, "b", 5)
    new = ops.exp(x)
    graph.updates = {a: new, b: new}
    graph = ready(graph)
    assert schedule(graph)[1] == {}
    names = [launch.name for launch in make_plan(graph, GENERIC_CPU).launches]
    assert [name.split()[2] for name in names[-2:]] == ["a", "b"]


def test_a_scalar_read_by_the_whole_tensor_is_not_overwritten_early():
    """The step count is read by every element of the parameter's kernel and updated elsewhere."""
    graph, x = begin((64,))
    count, state = variable(graph, "count"), variable(graph, "state", 64)
    graph.updates[count] = ops.add(count, 1.0)
    graph.updates[state] = ops.mul(ops.add(state, x), count)
    graph = ready(graph)
    order, in_place = schedule(graph)
    new = {old.name: value for old, value in graph.updates.items()}
    assert len(in_place) == 2
    assert order.index(new["count"].node) > order.index(new["state"].node)


@pytest.mark.parametrize("seed", range(12))
def test_nothing_reads_a_variable_after_its_update_in_place(seed):
    graph = ready(random_training_graph(seed)[0])
    order, in_place = schedule(graph)
    assert sorted(map(id, order)) == sorted(map(id, graph.nodes))
    position = {node: i for i, node in enumerate(order)}
    for node in order:
        assert all(value.node is None or position[value.node] < position[node] for value in node.inputs)
    for new, old in in_place.items():
        readers = [node for node in order if any(storage_root(value) is old for value in node.inputs)]
        assert all(position[node] <= position[new.node] for node in readers)


# -- the places ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("alignment", [1, 128, 256])
@pytest.mark.parametrize("seed", range(10))
def test_blocks_that_live_together_do_not_overlap(seed, alignment):
    rng = np.random.default_rng(seed)
    blocks = []
    for _ in range(int(rng.integers(1, 80))):
        first = int(rng.integers(0, 50))
        blocks.append(Lifetime(int(rng.integers(1, 5000)), first, first + int(rng.integers(0, 12))))
    arena = place(blocks, alignment)
    for i, (a, x) in enumerate(zip(blocks, arena.offsets, strict=True)):
        assert x % alignment == 0 and x + a.nbytes <= arena.nbytes
        for b, y in zip(blocks[:i], arena.offsets[:i], strict=True):
            if a.first <= b.last and b.first <= a.last:
                assert x + a.nbytes <= y or y + b.nbytes <= x, (a, b)
    least = max(sum(b.nbytes for b in blocks if b.first <= when <= b.last) for when in range(62))
    assert least <= arena.nbytes <= sum(-(-b.nbytes // alignment) * alignment for b in blocks)


def test_no_blocks_need_no_arena():
    assert place([], 128).nbytes == 0


def test_slots_hold_one_block_at_a_time():
    rng = np.random.default_rng(0)
    for _ in range(20):
        starts = [int(rng.integers(0, 50)) for _ in range(int(rng.integers(1, 60)))]
        blocks = [Lifetime(int(rng.integers(1, 5000)), first, first + int(rng.integers(0, 12))) for first in starts]
        slots = share(blocks)
        for i, (a, x) in enumerate(zip(blocks, slots.numbers, strict=True)):
            assert a.nbytes <= slots.sizes[x]
            assert not any(x == y and a.first <= b.last and b.first <= a.last
                           for b, y in zip(blocks[:i], slots.numbers[:i], strict=True))
        assert max(b.nbytes for b in blocks) <= sum(slots.sizes) <= sum(b.nbytes for b in blocks)


@pytest.mark.parametrize("most", [0, 0.6], ids=["arena", "slots"])
@pytest.mark.parametrize("target", [GENERIC_CPU, GENERIC_GPU], ids=["cpu", "gpu"])
@pytest.mark.parametrize("seed", range(12))
def test_plans_never_write_over_what_is_still_needed(seed, target, most, monkeypatch):
    """The plan is replayed symbolically: each place holds what its last writer left, when it is read."""
    monkeypatch.setattr("clnn.plan.plan.MOST_OF_MEMORY", most)
    graph = ready(random_training_graph(seed)[0], target)
    plan = make_plan(graph, target)
    assert plan.slots == (most > 0 and not target.is_cpu)
    written: dict[tuple, tuple] = {}                # (slot, byte) → the place and launch that wrote it

    def bytes_of(location, count: int) -> list[tuple]:
        return [(location.key, byte) for byte in range(location.offset, location.offset + count)]

    launch_number = 0
    for node, begin_, end in plan.nodes:
        for launch, planned in zip(node.offer.launches, plan.launches[begin_:end], strict=True):
            count = len(planned.arguments)
            outputs = [i for i, operand in enumerate(launch.operands) if operand in launch.written and i >= len(launch.reads)]
            assert count == len(launch.operands)
            sizes = [_size(node, operand) for operand in launch.operands]
            for i, location in enumerate(planned.arguments):
                assert location.kind not in ("arena", "slot") or sizes[i] <= location.nbytes
                if location.kind in ("arena", "slot") and i not in outputs:
                    owner = {written.get(byte) for byte in bytes_of(location, sizes[i])}
                    assert len(owner) == 1 and owner != {None}, (node, i)
                    assert next(iter(owner))[0] == location.offset, (node, i)
            for i in outputs:
                location = planned.arguments[i]
                if location.kind in ("arena", "slot"):
                    written |= dict.fromkeys(bytes_of(location, sizes[i]), (location.offset, launch_number))
            launch_number += 1


def test_an_arena_that_no_buffer_can_hold_becomes_slots():
    model, shape = lenet5(), (1, 28, 28)
    whole = plan_of(model, shape, 128, GENERIC_CPU)
    assert not whole.slots
    divided = plan_of(model, shape, 128, replace(GENERIC_CPU, max_allocation=whole.arena_bytes - 1))
    assert divided.slots
    assert all(place.nbytes < whole.arena_bytes for launch in divided.launches for place in launch.arguments)


def _size(node, operand) -> int:
    spec = {"in": lambda i: node.inputs[i].spec, "out": lambda i: node.outputs[i].spec, "work": lambda i: node.offer.work[i]}
    return spec[operand.kind](operand.index).nbytes


# -- counts -------------------------------------------------------------------------------------------------------------

def training_graph(model, shape: tuple[int, ...], batch: int, optimizer) -> Graph:
    """What clnn.Trainer runs per batch: gather, network, loss, hits, gradients, updates, counters."""
    graph, state = Graph(), StepState()
    graph.random = (state.seed, state.step)
    images = graph.variable(Variable(np.zeros((256, *shape), np.uint8), "images"))
    labels, order = (graph.variable(Variable(np.zeros(256, np.int32), name)) for name in ("labels", "order"))
    model.name_variables()
    x, target = gather_batch(graph, images, labels, order, state, batch, mean=(0.5,) * shape[0], std=(0.25,) * shape[0])
    output = model(x)
    loss = ops.cross_entropy(output, target)
    hits = ops.accuracy_hits(output, target)
    append_training(graph, loss, list(model.parameters()), optimizer, graph.variable(state.rate), graph.variable(state.step))
    end_step(graph, loss, hits, state, batch, batch)
    return graph


def plan_of(model, shape: tuple[int, ...], batch: int, target, optimizer=None):
    graph = training_graph(model, shape, batch, optimizer or SGD(0.1, 0.9, weight_decay=5e-4))
    return make_plan(ready(graph, target), target)


@pytest.mark.parametrize("optimizer", [SGD(0.1), SGD(0.1, 0.9), Adam(0.001)], ids=["sgd", "momentum", "adam"])
@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_launches_of_a_perceptron(target, optimizer):
    plan = plan_of(mlp(784, 512, 256, 10), (1, 28, 28), 128, target, optimizer)
    assert len(plan.launches) <= 12 + isinstance(optimizer, Adam), str(plan)


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_launches_of_lenet5(target):
    plan = plan_of(lenet5(), (1, 28, 28), 128, target)
    assert len(plan.launches) <= 24, str(plan)


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_updates_cost_no_launches_of_their_own(target):
    """Every parameter is updated by the kernel that finishes its gradient, and nothing is copied at the end."""
    for model, shape in ((mlp(784, 64, 10), (1, 28, 28)), (lenet5(), (1, 28, 28))):
        plan = plan_of(model, shape, 32, target)
        assert not [launch.name for launch in plan.launches if launch.name.startswith("update of")]
        alone = [launch.name for launch in plan.launches if launch.node.op.name == "Map" and launch.node in {
            new.node for new in plan.locations if new.node is not None and plan.locations[new].kind == "variable"}]
        assert not alone


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_memory_of_resnet18(target):
    plan = plan_of(resnet18(), (3, 32, 32), 64, target)
    share = plan.arena_bytes / plan.temporary_bytes
    assert share <= 0.6, plan.summary()
    assert not [launch.name for launch in plan.launches if launch.name.startswith("update of")]
