"""Update rules against torch.optim, by the references of the traced graph; state, descriptions and refusals."""

import gc
import json
import weakref

import numpy as np
import pytest
from interpreter import Interpreter

from clnn.errors import ArgumentError, InternalError
from clnn.ir import Graph, TensorSpec, Variable
from clnn.nn import Parameter
from clnn.ops import Map
from clnn.optim import SGD, Adam, AdamW, Optimizer, schedules

CASES = {
    "sgd": (SGD, {}),
    "sgd_decay": (SGD, {"weight_decay": 0.1}),
    "momentum": (SGD, {"momentum": 0.9}),
    "dampening": (SGD, {"momentum": 0.9, "dampening": 0.4, "weight_decay": 0.01}),
    "dampening_alone": (SGD, {"dampening": 0.4}),
    "nesterov": (SGD, {"momentum": 0.8, "nesterov": True, "weight_decay": 0.05}),
    "adam": (Adam, {}),
    "adam_decay": (Adam, {"betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1}),
    "adam_beta_0": (Adam, {"betas": (0.0, 0.9)}),
    "adam_betas_0": (Adam, {"betas": (0.0, 0.0), "eps": 1e-2}),
    "adamw": (AdamW, {}),
    "adamw_decay": (AdamW, {"weight_decay": 0.3}),
    "adamw_no_decay": (AdamW, {"weight_decay": 0.0}),
}
SHAPES = ((4, 3), (5,), ())


def variables(seed=0):
    rng = np.random.default_rng(seed)
    return [Parameter(rng.standard_normal(shape), f"layer{i}.weight") for i, shape in enumerate(SHAPES)]


def update_graph(optimizer, parameters):
    graph = Graph()
    lr, step = graph.variable(Variable(np.float32(0), "lr")), graph.variable(Variable(np.int32(0), "step"))
    for number, parameter in enumerate(parameters):
        gradient = graph.input(TensorSpec(parameter.shape), f"g{number}")
        optimizer.update(graph, graph.variable(parameter), gradient, lr, step)
    return graph, lr.source, step.source


@pytest.mark.parametrize("kind, options", CASES.values(), ids=CASES)
@pytest.mark.parametrize("rate", [0.05, schedules.Step(0.1, every=2, gamma=0.5)], ids=["constant", "schedule"])
def test_updates_are_torchs(kind, options, rate):
    torch = pytest.importorskip("torch")
    ours = variables()
    theirs = [torch.nn.Parameter(torch.tensor(p.array)) for p in ours]
    optimizer = kind(rate, **options)
    reference = getattr(torch.optim, kind.__name__)(theirs, lr=optimizer.lr_at(0), **options)
    graph, lr, step = update_graph(optimizer, ours)
    interpreter = Interpreter(graph)
    rng = np.random.default_rng(1)
    for number in range(6):
        gradients = [rng.standard_normal(shape).astype(np.float32) * 10.0 ** -number for shape in SHAPES]
        lr.array[...], step.array[...] = optimizer.lr_at(number), number
        interpreter.run(**{f"g{i}": g for i, g in enumerate(gradients)})
        for parameter, gradient in zip(theirs, gradients, strict=True):
            parameter.grad = torch.tensor(gradient)
        reference.param_groups[0]["lr"] = optimizer.lr_at(number)
        reference.step()
        for mine, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(mine.array, other.detach().numpy(), rtol=2e-6, atol=2e-7)
    for mine, other in zip(ours, theirs, strict=True):
        for slot, state in optimizer.state_of(mine).items():
            np.testing.assert_allclose(state.array, reference.state[other][slot].numpy(), rtol=2e-6, atol=2e-7)


@pytest.mark.parametrize("kind, options", CASES.values(), ids=CASES)
def test_one_node_per_parameter(kind, options):
    graph, _, _ = update_graph(kind(0.1, **options), variables())
    assert all(isinstance(node.op, Map) for node in graph.nodes)
    assert [node.path for node in graph.nodes if node.path != "optimizer"] == ["layer0.weight", "layer1.weight", "layer2.weight"]
    assert sum(node.path == "optimizer" for node in graph.nodes) == (1 if issubclass(kind, Adam) else 0)


def test_bias_correction_is_exact_at_the_first_step():
    """1 − 0.999 in float32 would be off by 1e-5."""
    parameter = Parameter(np.zeros(1), "w")
    optimizer = Adam(1.0, eps=0.0)
    graph, lr, _ = update_graph(optimizer, [parameter])
    lr.array[...] = 1
    Interpreter(graph).run(g0=np.float32([1e-3]))
    np.testing.assert_allclose(parameter.array, -1, rtol=3e-7)


def test_state_is_made_once_named_and_zero():
    parameter = Parameter(np.ones((2, 3)), "fc.weight")
    optimizer = Adam()
    state = optimizer.state_of(parameter)
    assert {slot: v.name for slot, v in state.items()} == {"exp_avg": "fc.weight.exp_avg", "exp_avg_sq": "fc.weight.exp_avg_sq"}
    assert all(not v.trainable and v.shape == (2, 3) and not v.array.any() for v in state.values())
    assert optimizer.state_of(parameter) is state
    assert Adam().state_of(parameter) is not state
    assert SGD().state_of(parameter) == {}
    assert list(SGD(momentum=0.9).state_of(parameter)) == ["momentum_buffer"]


def test_state_does_not_keep_a_model_alive():
    optimizer, parameter = Adam(), Parameter(np.ones(3), "w")
    optimizer.state_of(parameter)
    gone = weakref.ref(parameter)
    del parameter
    gc.collect()
    assert gone() is None


def test_gradient_of_another_shape():
    graph = Graph()
    one = graph.constant(0.0)
    with pytest.raises(InternalError, match="the gradient does not fit the parameter"):
        SGD().update(graph, graph.variable(Parameter(np.ones(3), "w")), graph.input(TensorSpec((2,)), "g"), one, one)


@pytest.mark.parametrize("optimizer", [
    SGD(0.1, 0.9, nesterov=True), Adam(2e-3, (0.8, 0.9), 1e-6, 0.1), AdamW(schedules.Warmup(schedules.Cosine(0.1, 100), 10)),
], ids=["SGD", "Adam", "AdamW"])
def test_configuration_round_trip(optimizer):
    described = json.loads(json.dumps(optimizer.config()))
    again = Optimizer.from_config(described)
    assert type(again) is type(optimizer)
    assert again.config() == optimizer.config()
    assert [again.lr_at(step) for step in range(0, 200, 7)] == [optimizer.lr_at(step) for step in range(0, 200, 7)]
    assert repr(again) == repr(optimizer)


def test_configuration_text():
    assert SGD(0.1, momentum=0.9).config() == {"name": "SGD", "lr": {"name": "Constant", "lr": 0.1}, "momentum": 0.9,
                                               "dampening": 0.0, "weight_decay": 0.0, "nesterov": False}
    assert repr(Adam()) == "Adam(lr=0.001, betas=(0.9, 0.999), eps=1e-08, weight_decay=0.0)"
    assert isinstance(Optimizer.from_config({"name": "SGD", "lr": 0.5}), SGD)


@pytest.mark.parametrize("make, text", [
    (lambda: SGD(-1), "SGD: lr must be a finite number of at least 0, or a schedule\n  got:      lr=-1"),
    (lambda: Adam("fast"), "Adam: lr must be a finite number of at least 0, or a schedule\n  got:      lr='fast'"),
    (lambda: SGD(momentum=-0.1), "SGD: momentum is out of range\n  got:      momentum=-0.1\n  expected: 0 <= momentum, finite"),
    (lambda: SGD(weight_decay=float("nan")), "SGD: weight_decay is out of range\n  got:      weight_decay=nan"),
    (lambda: SGD(nesterov=True),
     "SGD: nesterov needs a momentum above 0 and no dampening\n  got:      momentum=0.0, dampening=0.0\n"
     "  try:      SGD(lr, momentum=0.9, nesterov=True)"),
    (lambda: Adam(betas=(0.9, 1.0)), "Adam: betas[1] is out of range\n  got:      betas[1]=1.0\n  expected: 0 <= betas[1] < 1"),
    (lambda: AdamW(betas=0.9), "AdamW: betas must be a pair\n  got:      betas=0.9\n  expected: (0.9, 0.999)"),
    (lambda: AdamW(eps=-1), "AdamW: eps is out of range"),
    (lambda: Optimizer.from_config({"name": "Sgd"}), "unknown optimiser\n  got:      Sgd\n  expected: Adam, AdamW, SGD"),
    (lambda: Optimizer.from_config({"name": "SGD", "betas": 1}),
     "SGD: the optimiser does not take these options\n  got:      ['betas']\n"
     "  expected: lr, momentum, dampening, weight_decay, nesterov"),
])
def test_errors(make, text):
    with pytest.raises(ArgumentError) as error:
        make()
    assert str(error.value).startswith(text)
