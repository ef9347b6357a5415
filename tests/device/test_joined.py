"""Short runs as one launch: the same bits as launch by launch, boards left as they were found, and what still goes singly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import clnn
from clnn import models, nn, ops
from clnn.codegen.joined import Joined, joins
from clnn.codegen.template import render
from clnn.config import config
from clnn.ir import Graph, TensorSpec
from clnn.optim import SGD, Adam
from clnn.passes import INFERENCE, run_passes
from clnn.plan import join as joining
from clnn.plan import make_plan
from clnn.runtime import Executable


@pytest.fixture(autouse=True)
def _a_cpu(device_session):
    if not joins(device_session.target):
        pytest.skip("launches are joined on CPUs through PoCL only")


def convolutional():
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
                         nn.Dropout(0.3), nn.Linear(4 * 6 * 6, 10))


NETWORKS = {
    "perceptron": (lambda: models.mlp(50, 33, 20, 10, seed=1), (24, 50), lambda: SGD(lr=0.1, momentum=0.9)),
    "one row": (lambda: models.mlp(7, 5, 3, seed=1), (1, 7), lambda: SGD(lr=0.1)),
    "adam": (lambda: models.mlp(40, 64, 10, seed=1), (130, 40), lambda: Adam(lr=0.01)),
    "convolutional": (convolutional, (8, 1, 12, 12), lambda: SGD(lr=0.05, momentum=0.9, weight_decay=1e-3)),
}


def compiled(name, device, join=True):
    build, shape, optimizer = NETWORKS[name]
    nn.manual_seed(5)
    with config.override(join=join):
        return clnn.compile(build(), shape, loss="cross_entropy", optimizer=optimizer(), device=device)


def losses(step, name, steps=12):
    shape = NETWORKS[name][1]
    rng = np.random.default_rng(2)
    x, target = rng.standard_normal((steps, *shape)).astype(np.float32), rng.integers(0, 3, (steps, shape[0])).astype(np.int32)
    return np.array([step.run(x[i], target[i])[0] for i in range(steps)])


def boards(step):
    """What the boards of a step hold that must be zeros: all but who had which place, the last ints of a joined kernel's."""
    executable = step.executable
    hints = {join.arguments[-1]: join.kernel.cores for join in executable.plan.joins}
    places = {place for launch in (*executable.plan.launches, *executable.plan.joins) for place in launch.arguments
              if place.kind == "board"}
    found = [np.ones(place.nbytes // 4, np.int32) for place in places]
    for place, array in zip(places, found, strict=True):
        executable.session.download(executable.buffer(place), array)
    return np.concatenate([array[:array.size - hints.get(place, 0)] for place, array in zip(places, found, strict=True)])


def owners(step):
    """Which thread had which place in the last run of a step's first joined kernel."""
    executable = step.executable
    (join, *_) = executable.plan.joins
    board = np.zeros(join.kernel.board_bytes // 4, np.int32)
    executable.session.download(executable.buffer(join.arguments[-1]), board)
    return board[-join.kernel.cores:].tolist()


@pytest.mark.parametrize("name", NETWORKS)
def test_the_same_bits(name, device):
    joined, single = compiled(name, device), compiled(name, device, join=False)
    assert joined.executable.plan.joins and not single.executable.plan.joins
    assert np.array_equal(losses(joined, name), losses(single, name))
    assert not boards(joined).any()
    for one, other in zip(joined.executable.plan.variables, single.executable.plan.variables, strict=True):
        assert np.array_equal(one.array, other.array)


def for_cores(cores, monkeypatch):
    """Joined kernels of so many work-groups; their texts are others."""
    whole = joining._join

    def with_cores(first, launches, target, board):
        return whole(first, launches, replace(target, compute_units=cores), board)

    monkeypatch.setattr(joining, "_join", with_cores)


@pytest.mark.parametrize("cores", [1, 2, 5])
def test_any_number_of_cores(cores, device, monkeypatch):
    """More work-groups than the device runs at once: the first ones do all, and the others find nothing left."""
    for_cores(cores, monkeypatch)
    joined = compiled("perceptron", device)
    assert {join.kernel.cores for join in joined.executable.plan.joins} == {cores}
    single = compiled("perceptron", device, join=False)
    assert np.array_equal(losses(joined, "perceptron"), losses(single, "perceptron")) and not boards(joined).any()


def test_places_are_remembered(device):
    """By all that run groups: which threads these are is up to the driver."""
    step = compiled("perceptron", device)
    assert not any(owners(step))
    losses(step, "perceptron")
    assert all(owners(step))


def test_whatever_places_remember(device):
    """It decides where a core begins, and nothing else."""
    step, single = compiled("perceptron", device), compiled("perceptron", device, join=False)
    expected = losses(single, "perceptron")
    (join, *_) = step.executable.plan.joins
    board = np.zeros(join.kernel.board_bytes // 4, np.int32)
    board[-join.kernel.cores:] = 12345
    step.executable.session.upload(step.executable.buffer(join.arguments[-1]), board)
    assert np.array_equal(losses(step, "perceptron"), expected) and not boards(step).any()


@pytest.mark.parametrize("cores", [3, 9])         # as in no other test: equal kernels are built once
def test_whoever_waits_long_leaves(cores, device, monkeypatch):
    """After one look already: the others do the rest, and the last one stays."""
    for_cores(cores, monkeypatch)
    monkeypatch.setattr("clnn.codegen.joined.LOOKS", 1)
    joined, single = compiled("perceptron", device), compiled("perceptron", device, join=False)
    assert "looks == 1)" in joined.executable.plan.joins[0].kernel.text[1]
    assert np.array_equal(losses(joined, "perceptron", 200), losses(single, "perceptron", 200)) and not boards(joined).any()


def test_single_launches_are_there_for_those_who_look(device):
    step, other = compiled("perceptron", device), compiled("perceptron", device, join=False)
    losses(step, "perceptron", 3), losses(other, "perceptron", 3)
    profile = step.profile()
    assert len(profile.timings) == len(step.executable.plan.launches) == len(step.executable.kernels)
    other.profile()
    assert np.array_equal(losses(step, "perceptron"), losses(other, "perceptron")), "both advanced by as many steps"
    with config.override(validate=True):
        losses(compiled("perceptron", device), "perceptron", 2)


def test_a_compiler_that_refuses_the_joined_kernel(device, monkeypatch):
    for_cores(4, monkeypatch)
    monkeypatch.setattr(Joined, "text", ("joined_wrong", "__kernel void joined_wrong(__global char* b0) { this is no C; }"))
    step = compiled("perceptron", device)
    monkeypatch.undo()
    assert np.array_equal(losses(step, "perceptron"), losses(compiled("perceptron", device, join=False), "perceptron"))


def test_prediction_is_joined_too(device):
    model = models.mlp(50, 33, 20, 10, seed=1)
    x = np.random.default_rng(3).standard_normal((24, 50)).astype(np.float32)
    step = clnn.compile(model, (24, 50), device=device)
    (join,) = step.executable.plan.joins
    assert join.last == len(step.executable.plan.launches)
    with config.override(join=False):
        assert np.array_equal(step.run(x), clnn.compile(model, (24, 50), device=device).run(x))


def test_joins_of_one_program_share_kernels(device_session):
    """Equal kernels in two joined ones are one function: they are built together."""
    graph, target = Graph(), device_session.target
    x, long = graph.input(TensorSpec((24, 40)), "x"), graph.input(TensorSpec((2048, 2048)), "long")
    filters = [graph.input(TensorSpec((40, 40)), name) for name in "wv"]
    first = ops.sum(ops.relu(ops.matmul(x, filters[0])), 1)
    second = ops.sum(ops.relu(ops.matmul(ops.mul(x, ops.mean(ops.add(long, ops.mean(first)))), filters[1])), 1)
    graph.outputs = [first, second]
    plan = make_plan(run_passes(graph, target, INFERENCE), target)
    names = [set(join.kernel.kernels) for join in plan.joins]
    assert len(names) == 2 and names[0] & names[1]
    executable = Executable(plan, device_session)
    executable.run()
    assert len(plan.launches) > len(executable._run) >= 3


def test_equal_texts_for_other_grids(device_session):
    """What a kernel's text does not tell is how many work-groups there are."""
    graph, target = Graph(), device_session.target
    shapes = (5, 12, 9), (1, 12, 9), (3, 12, 9)
    inputs = [graph.input(TensorSpec(shape), f"x{i}") for i, shape in enumerate(shapes)]
    graph.outputs = [ops.transpose(value, (0, 2, 1)) for value in inputs]
    plan = make_plan(run_passes(graph, target, INFERENCE), target)
    (join,) = plan.joins
    assert len({render(spec)[0] for spec in join.kernel.kernels}) == 1 and len({spec.grid for spec in join.kernel.kernels}) > 1
    executable = Executable(plan, device_session)
    arrays = [np.random.default_rng(i).standard_normal(shape).astype(np.float32) for i, shape in enumerate(shapes)]
    for value, array in zip(inputs, arrays, strict=True):
        executable.write(value.name, array)
    executable.run()
    for value, array in zip(plan.outputs, arrays, strict=True):
        assert np.array_equal(executable.read(value), array.transpose(0, 2, 1))


def test_training_runs_joins_only(device, monkeypatch):
    """No kernel is built twice, as one of its own as well: not by the rehearsal either."""
    rng = np.random.default_rng(6)
    images, labels = rng.standard_normal((40, 50)).astype(np.float32), rng.integers(0, 10, 40).astype(np.int32)
    twice, single = [], Executable._launch

    def noted(executable, number):
        twice.extend(join for join in executable.plan.joins if join.first <= number < join.last)
        return single(executable, number)

    monkeypatch.setattr(Executable, "_launch", noted)
    trainer = clnn.Trainer(models.mlp(50, 33, 10, seed=1), optimizer=SGD(lr=0.1), device=device)
    trainer.fit((images, labels), epochs=2, batch_size=20, progress=False)
    assert not twice
