"""Module: registration, walking, state, scopes, text; containers."""

import copy

import numpy as np
import pytest
from interpreter import call, trace

from clnn import nn, ops
from clnn.errors import ArgumentError, ClnnError, ShapeError
from clnn.ir import Variable


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.first = nn.Linear(width, width)
        self.rest = nn.ModuleList([nn.Linear(width, width, bias=False), nn.Sequential(nn.ReLU(), nn.Linear(width, 2))])
        self.scale = nn.Parameter(np.float64(2.0))
        self.register_buffer("offset", np.zeros(2, np.float32))
        self.register_buffer("scratch", np.zeros(3, np.float32), persistent=False)
        self.width = width

    def forward(self, x):
        x = self.first(x)
        for layer in self.rest:
            x = layer(x)
        return ops.add(ops.mul(x, self.scale), self.offset)


NAMES = ["scale", "first.weight", "first.bias", "rest.0.weight", "rest.1.1.weight", "rest.1.1.bias"]


def test_walking():
    block = Block(3)
    assert [name for name, _ in block.named_parameters()] == NAMES
    assert [name for name, _ in block.named_buffers()] == ["offset", "scratch"]
    assert [name for name, _ in block.named_modules()] == ["", "first", "rest", "rest.0", "rest.1", "rest.1.0", "rest.1.1"]
    assert [name for name, _ in block.named_children()] == ["first", "rest"]
    assert len(list(block.parameters())) == 6
    assert len(list(block.modules())) == 7
    assert list(block.buffers()) == [block.offset, block.scratch]
    assert all(p.trainable and p.array.dtype == np.float32 for p in block.parameters())
    assert block.scale.shape == ()


def test_state_dict():
    block = Block(3)
    state = block.state_dict()
    assert list(state) == ["scale", "offset", *NAMES[1:]]
    state["scale"][...] = 7
    assert block.scale.array == 2, "the state is a copy"
    other = Block(3)
    held = other.first.weight
    assert other.load_state_dict(block.state_dict()) == ([], [])
    assert other.first.weight is held
    np.testing.assert_array_equal(held.array, block.first.weight.array)


def test_load_reports_everything_at_once_and_changes_nothing():
    block, before = Block(3), Block(3).state_dict()
    block.load_state_dict(before)
    state = {name: array + 1 for name, array in before.items()}
    del state["scale"], state["first.bias"]
    state |= {"head.weight": np.zeros(2), "first.weight": np.zeros((4, 3)), "offset": np.zeros(2, np.int32)}
    with pytest.raises(ArgumentError) as error:
        block.load_state_dict(state)
    assert str(error.value) == (
        "Block.load_state_dict: the state does not fit the model\n"
        "  got:      missing (2): scale, first.bias\n"
        "            unexpected (1): head.weight\n"
        "            wrong (2): first.weight: got shape (4, 3), expected (3, 3), offset: got type int32, expected float32\n"
        "  expected: the names and shapes of model.state_dict()\n"
        "  try:      build the model with the options it was saved with")
    for name, array in block.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_load_not_strict():
    block = Block(3)
    result = block.load_state_dict({"scale": np.float32(5), "other": np.zeros(1)}, strict=False)
    assert result.missing_keys == ["offset", *NAMES[1:]]
    assert result.unexpected_keys == ["other"]
    assert block.scale.array == 5
    with pytest.raises(ArgumentError, match=r"wrong \(1\): scale: got shape \(2,\), expected \(\)"):
        block.load_state_dict({"scale": np.zeros(2)}, strict=False)
    with pytest.raises(ArgumentError, match="pass strict=False"):
        block.load_state_dict({})


def test_long_lists_are_cut():
    model = nn.Sequential(*(nn.Linear(1, 1) for _ in range(15)))
    with pytest.raises(ArgumentError, match=r"missing \(30\): 0.weight, .*9.bias, … and 10 more"):
        model.load_state_dict({})


def test_shared_modules_and_parameters():
    layer = nn.Linear(2, 2)
    model = nn.Sequential(layer, layer)
    assert [name for name, _ in model.named_parameters()] == ["0.weight", "0.bias"]
    assert list(model.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert len(list(model.modules())) == 2


def test_name_variables():
    block = Block(3)
    block.name_variables()
    assert block.rest[1][1].bias.name == "rest.1.1.bias"
    assert block.offset.name == "offset"
    graph = trace(block, (1, 3))
    assert {value.name for value in graph.variables} == {*NAMES, "offset"}


def test_scopes():
    paths = [node.path for node in trace(nn.Sequential(Block(3)), (1, 3)).nodes]
    assert set(paths) == {"0.first", "0.rest.0", "0.rest.1.0", "0.rest.1.1", "0"}


def test_modes():
    model = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout()))
    assert model.eval() is model
    assert not any(module.training for module in model.modules())
    model.train()
    assert all(module.training for module in model.modules())
    assert not any(p.trainable for p in Block(2).requires_grad_(False).parameters())


def test_apply_visits_children_first():
    seen = []
    Block(2).apply(lambda module: seen.append(type(module).__name__))
    assert seen == ["Linear", "Linear", "ReLU", "Linear", "Sequential", "ModuleList", "Block"]


def test_attributes():
    block = Block(3)
    block.first = nn.Identity()
    block.scale = None
    assert "scale" not in dict(block.named_parameters())
    block.scale = nn.Parameter(np.ones(1))
    block.offset = Variable(np.ones(2, np.float32))
    assert block.state_dict()["offset"].tolist() == [1, 1]
    del block.offset
    assert not hasattr(block, "offset")
    block.later = None
    block.later = nn.ReLU()
    assert block.later in list(block.children())
    with pytest.raises(AttributeError, match="'Block' has no attribute 'missing'"):
        _ = block.missing


def test_deepcopy():
    block = Block(3)
    twin = copy.deepcopy(block)
    twin.scale.array[...] = 9
    assert block.scale.array == 2
    assert twin.first.weight is not block.first.weight


class Uninitialised(nn.Module):
    def __init__(self):
        self.layer = nn.ReLU()


@pytest.mark.parametrize("act, text", [
    (Uninitialised, "Uninitialised: attributes cannot be set before Module.__init__() has run\n  got:      layer\n"
                    "  try:      call super().__init__() first in __init__"),
    (lambda: nn.Module().register_buffer("a.b", np.zeros(1)), 
     "Module: not a name for a parameter, buffer or module\n  got:      'a.b'"),
    (lambda: nn.Module().register_parameter("forward", nn.Parameter(np.zeros(1))), 
     "Module: the name is taken\n  got:      forward"),
    (lambda: nn.Module().register_parameter("p", np.zeros(1)),
     "Module.p: not a parameter\n  got:      ndarray\n  try:      wrap the array: clnn.nn.Parameter(array)"),
    (lambda: nn.Sequential(nn.ReLU(), abs), "Sequential.1: not a module\n  got:      builtin_function_or_method"),
    (lambda: setattr(Block(2), "scale", np.zeros(1)),
     "Block.scale: the attribute is registered and cannot hold this\n  got:      ndarray\n"
     "  try:      write into scale.array instead, or use load_state_dict"),
    (lambda: setattr(Block(2), "offset", nn.ReLU()), "Block: the name is taken\n  got:      offset"),
    (lambda: nn.Linear(3, 2)(np.zeros((5, 3))),
     "Linear: a module takes symbolic values, not arrays\n  got:      ndarray of shape (5, 3)\n"
     "  try:      clnn.evaluate(model, x)"),
    (lambda: nn.Linear(3, 2)(), "Linear: a module needs at least one symbolic value"),
    (lambda: trace(nn.Module(), (1,)), "Module: the module defines no forward"),
    (lambda: trace(nn.ModuleList([nn.ReLU()]), (1,)), "ModuleList: the module defines no forward"),
    (lambda: nn.ModuleList()["0"], "ModuleList: modules are indexed by whole numbers\n  got:      '0'"),
])
def test_errors(act, text):
    with pytest.raises(ArgumentError) as error:
        act()
    assert str(error.value).startswith(text)


def test_errors_carry_the_innermost_layer_once():
    model = nn.Sequential({"features": nn.Sequential(nn.Linear(4, 3), nn.Linear(4, 3))})
    with pytest.raises(ShapeError) as error:
        trace(model, (2, 4))
    assert str(error.value) == ("features.1 (Linear): in_features (=4) does not fit the last axis of the input\n"
                                "  got:      shape (2, 3)\n  expected: (…, 4)")


def test_errors_of_operators_carry_the_layer():
    class Bad(nn.Module):
        def forward(self, x):
            return ops.reshape(x, (7,))

    with pytest.raises(ClnnError) as error:
        trace(nn.Sequential(nn.ReLU(), Bad()), (2, 4))
    assert str(error.value).startswith("1 (Bad): reshape: the number of elements changes\n  got:      (2, 4) -> (7,)")


# -- containers and text ------------------------------------------------------------------------------------------------

def test_sequential():
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    assert len(model) == 3
    assert model[-1] is list(model)[2]
    assert [name for name, _ in model[1:].named_children()] == ["1", "2"]
    assert model.append(nn.Tanh()) is model
    model[1] = nn.Sigmoid()
    assert [type(m).__name__ for m in model] == ["Linear", "Sigmoid", "Linear", "Tanh"]
    with pytest.raises(IndexError, match="Sequential has 4 modules, index 4 is out of range"):
        _ = model[4]
    assert len(nn.ModuleList([nn.ReLU()]).extend([nn.ReLU(), nn.Tanh()])) == 3
    assert list(nn.Sequential()) == []


def test_sequential_computes():
    x = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    model = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
    expected = np.maximum(x @ model[0].weight.array.T + model[0].bias.array, 0)
    np.testing.assert_allclose(call(model, x), expected, rtol=1e-5, atol=1e-6)


def test_text_is_torchs():
    torch = pytest.importorskip("torch")

    def build(m):
        return m.Sequential(m.Conv2d(3, 8, 5, stride=2, padding=(1, 2), groups=1, bias=False), m.ReLU(),
                            m.Conv2d(8, 8, 3, dilation=2, groups=4, padding="same"), m.LeakyReLU(),
                            m.Sequential(m.Flatten(), m.Tanh()), m.Linear(8, 4), m.Softmax(dim=1), m.ELU(), m.GELU(),
                            m.AdaptiveAvgPool2d((1, 1)), m.Sequential())

    assert repr(build(nn)) == repr(build(torch.nn))
    assert repr(nn.BatchNorm2d(8)) == "BatchNorm2d(8, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True)"
