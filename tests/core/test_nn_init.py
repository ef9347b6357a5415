"""Initial values: their distribution, their repeatability, and refusals."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from clnn import nn
from clnn.errors import ArgumentError
from clnn.nn import init, seed
from clnn.train.state import overwrite

SHAPE = (64, 32, 3, 3)
FAN_IN, FAN_OUT = 32 * 9, 64 * 9


def filled(function, *args, shape=SHAPE, **options):
    parameter = nn.Parameter(np.zeros(shape))
    array = parameter.array
    assert function(parameter, *args, generator=np.random.default_rng(0), **options) is parameter
    assert parameter.array is array and array.dtype == np.float32
    return array


@pytest.mark.parametrize("function, options, std", [
    (init.normal_, {"mean": 0.0, "std": 0.3}, 0.3),
    (init.uniform_, {"a": -0.3, "b": 0.3}, 0.3 / 3**0.5),
    (init.kaiming_normal_, {}, (2 / FAN_IN) ** 0.5),
    (init.kaiming_normal_, {"mode": "fan_out", "nonlinearity": "relu"}, (2 / FAN_OUT) ** 0.5),
    (init.kaiming_normal_, {"a": 0.5}, (2 / 1.25 / FAN_IN) ** 0.5),
    (init.kaiming_uniform_, {"nonlinearity": "tanh"}, 5 / 3 / FAN_IN**0.5),
    (init.xavier_normal_, {"gain": 2.0}, 2 * (2 / (FAN_IN + FAN_OUT)) ** 0.5),
    (init.xavier_uniform_, {}, (2 / (FAN_IN + FAN_OUT)) ** 0.5),
])
def test_spread(function, options, std):
    array = filled(function, **options)
    assert array.std() == pytest.approx(std, rel=0.02)
    assert abs(array.mean()) < 0.02 * std
    if "uniform" in function.__name__:
        assert abs(array).max() <= std * 3**0.5 * (1 + 1e-6)


@pytest.mark.parametrize("function", [init.kaiming_normal_, init.kaiming_uniform_, init.xavier_normal_, init.xavier_uniform_])
def test_spread_is_torchs(function):
    torch = pytest.importorskip("torch")
    theirs = torch.empty(SHAPE)
    getattr(torch.nn.init, function.__name__)(theirs)
    assert filled(function).std() == pytest.approx(theirs.std().item(), rel=0.03)


@pytest.mark.parametrize("name, param", [("linear", None), ("sigmoid", None), ("tanh", None), ("relu", None), ("selu", None),
                                         ("leaky_relu", None), ("leaky_relu", 0.2)])
def test_gains_are_torchs(name, param):
    torch = pytest.importorskip("torch")
    assert init.calculate_gain(name, param) == pytest.approx(torch.nn.init.calculate_gain(name, param))


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (4, 3, 2, 2)])
def test_orthogonal(shape):
    matrix = filled(init.orthogonal_, 2.0, shape=shape).reshape(shape[0], -1)
    small = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    np.testing.assert_allclose(small, 4 * np.eye(len(small)), atol=1e-5)


def test_constants():
    parameter = nn.Parameter(np.arange(3))
    assert init.ones_(parameter).array.tolist() == [1, 1, 1]
    assert init.constant_(parameter, 4).array.tolist() == [4, 4, 4]
    assert init.zeros_(parameter).array.tolist() == [0, 0, 0]


def test_layers_start_he_normal_with_zero_bias():
    grouped = nn.Conv2d(32, 64, 3, groups=4)
    for layer, fan_in in ((nn.Conv2d(32, 64, 3), FAN_IN), (grouped, FAN_IN // 4), (nn.Linear(300, 200), 300)):
        assert layer.weight.array.std() == pytest.approx((2 / fan_in) ** 0.5, rel=0.03)
        assert not layer.bias.array.any()


def test_seeds():
    def draw():
        return nn.Linear(4, 4).weight.array

    nn.manual_seed(7)
    first, second = draw(), draw()
    assert (first != second).all()
    nn.manual_seed(7)
    np.testing.assert_array_equal(draw(), first)
    with nn.seeded(7):
        np.testing.assert_array_equal(draw(), first)
    np.testing.assert_array_equal(draw(), second)
    with nn.seeded(None):
        assert (draw() != first).all()
    nn.manual_seed(0)


def test_numbers_do_not_depend_on_when_they_are_wanted():
    def layers():
        nn.manual_seed(3)
        return [nn.Linear(30, 20), nn.Conv2d(3, 8, 3), nn.Linear(20, 9)]

    wanted = [layer.weight.array.copy() for layer in layers()]
    nn.manual_seed(3)
    at_once = [init.he_normal(array.shape) for array in wanted]
    backwards = [layer.weight.array for layer in reversed(layers())][::-1]
    aside = layers()
    aside[1].weight.begin()
    del aside[0]                                        # what nobody wants keeps its place
    for made in (at_once, backwards, [None, *(layer.weight.array for layer in aside)]):
        for array, expected in zip(made, wanted, strict=True):
            assert array is None or np.array_equal(array, expected)
    nn.manual_seed(0)


def test_numbers_between_those_of_layers():
    """Whoever takes the generator itself draws after the layers before, and before the layers after."""
    def drawn(wait):
        nn.manual_seed(5)
        first = nn.Linear(4, 4)
        if wait:
            _ = first.weight.array
        own = init.normal_(nn.Parameter(np.zeros(3))).array
        second = nn.Linear(4, 4)
        if wait:
            _ = second.weight.array
        more = seed.generator().random(2)
        return [first.weight.array, own, second.weight.array, more]

    for array, expected in zip(drawn(False), drawn(True), strict=True):
        np.testing.assert_array_equal(array, expected)
    nn.manual_seed(0)


def test_many_threads_may_want_numbers():
    with nn.seeded(1):
        alone = [nn.Linear(50, 50).weight.array for _ in range(40)]
    with nn.seeded(1):
        layers = [nn.Linear(50, 50) for _ in range(40)]
    layers[0].weight.begin()
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda layer: layer.weight.array, layers))
    np.testing.assert_array_equal(together, alone)


def test_copies_hold_the_numbers():
    layer = nn.Linear(4, 3)
    for copied in (copy.deepcopy(layer.weight), pickle.loads(pickle.dumps(layer.weight))):
        np.testing.assert_array_equal(copied.array, layer.weight.array)
        assert copied.array is not layer.weight.array and copied.trainable


def test_what_is_loaded_stays():
    """Numbers that are drawn later do not overwrite what a variable was given meanwhile."""
    with nn.seeded(1):
        layer, other = nn.Linear(4, 3), nn.Linear(3, 3)
    overwrite(layer.weight, np.ones((3, 4), np.float32))
    assert other.weight.array.any() and (layer.weight.array == 1).all()


@pytest.mark.parametrize("act, text", [
    (lambda: init.kaiming_normal_(nn.Parameter(np.zeros(3))), "init: the fan of a tensor with fewer than 2 axes is not defined"),
    (lambda: init.kaiming_normal_(nn.Parameter(np.zeros((3, 3))), mode="fan"), "init: unknown mode\n  got:      mode='fan'"),
    (lambda: init.kaiming_uniform_(nn.Parameter(np.zeros((3, 3))), nonlinearity="swish"), "init: unknown nonlinearity"),
    (lambda: init.uniform_(nn.Parameter(np.zeros(3)), 1, 0), "init.uniform_: the lower bound lies above the upper"),
    (lambda: init.normal_(nn.Parameter(np.zeros(3)), std=-1), "init.normal_: std is out of range\n  got:      std=-1"),
    (lambda: init.normal_(nn.Parameter(np.zeros(3)), generator=0), "init: needs a numpy Generator\n  got:      int"),
    (lambda: nn.manual_seed(-1), "seed: seed must be a whole number of at least 0\n  got:      seed=-1"),
])
def test_errors(act, text):
    with pytest.raises(ArgumentError) as error:
        act()
    assert str(error.value).startswith(text)
