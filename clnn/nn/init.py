"""Initial values. As in torch.nn.init, functions with a trailing underscore fill a Parameter's array in place and return it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..errors import ArgumentError
from ..ir import Variable
from . import seed
from .checks import choice, number
from .draws import Draw, Draws

#: recommended gains, as torch.nn.init.calculate_gain
_GAINS = {"linear": 1.0, "sigmoid": 1.0, "tanh": 5 / 3, "relu": math.sqrt(2.0), "selu": 0.75}


def fans(shape: Sequence[int]) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight (out, in, …): inputs that one output sums over, outputs that one input reaches."""
    if len(shape) < 2:
        raise ArgumentError("the fan of a tensor with fewer than 2 axes is not defined", where="init", got=tuple(shape),
                            expected="(out, in) or (out, in, R, S)", hint="zeros_ or constant_ for biases")
    area = math.prod(shape[2:])
    return shape[1] * area, shape[0] * area


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor that keeps the variance through an activation; ``param`` is leaky_relu's negative slope (0.01)."""
    if nonlinearity == "leaky_relu":
        return math.sqrt(2.0 / (1 + (0.01 if param is None else param) ** 2))
    return _GAINS[choice("init", "nonlinearity", nonlinearity, (*_GAINS, "leaky_relu"))]


def _generator(generator: np.random.Generator | None) -> np.random.Generator:
    if generator is None:
        return seed.generator()
    if not isinstance(generator, np.random.Generator):
        raise ArgumentError("needs a numpy Generator", where="init", got=type(generator).__name__,
                            expected="numpy.random.Generator, for example numpy.random.default_rng(0)")
    return generator


def he_normal(shape: Sequence[int], generator: np.random.Generator | None = None) -> np.ndarray:
    """A new float32 array from N(0, 2 / fan_in), the default of Linear and Conv2d.

    Source: He et al., "Delving deep into rectifiers", 2015, equation 10.
    """
    draws = seed.draws() if generator is None else Draws(_generator(generator))
    return draws.normal(tuple(shape), _he_std(shape)).make()


def he_normal_draw(shape: Sequence[int]) -> Draw:
    """The numbers of :func:`he_normal` for a Parameter, drawn when they are first wanted."""
    return seed.draws().normal(tuple(shape), _he_std(shape))


def _he_std(shape: Sequence[int]) -> float:
    return math.sqrt(2.0 / max(fans(shape)[0], 1))


def normal_(parameter: Variable, mean: float = 0.0, std: float = 1.0, generator: np.random.Generator | None = None) -> Variable:
    """N(mean, std²)."""
    number("init.normal_", "std", std, 0)
    parameter.array[...] = _generator(generator).standard_normal(parameter.shape, np.float32) * std + mean
    return parameter


def uniform_(parameter: Variable, a: float = 0.0, b: float = 1.0, generator: np.random.Generator | None = None) -> Variable:
    """U[a, b)."""
    if not a <= b:
        raise ArgumentError("the lower bound lies above the upper", where="init.uniform_", got=(a, b))
    parameter.array[...] = a + (b - a) * _generator(generator).random(parameter.shape, np.float32)
    return parameter


def constant_(parameter: Variable, value: float) -> Variable:
    """``value`` everywhere."""
    parameter.array[...] = value
    return parameter


def zeros_(parameter: Variable) -> Variable:
    """0 everywhere."""
    return constant_(parameter, 0)


def ones_(parameter: Variable) -> Variable:
    """1 everywhere."""
    return constant_(parameter, 1)


def _kaiming_std(parameter: Variable, a: float, mode: str, nonlinearity: str) -> float:
    fan = fans(parameter.shape)[("fan_in", "fan_out").index(choice("init", "mode", mode, ("fan_in", "fan_out")))]
    return calculate_gain(nonlinearity, a) / math.sqrt(max(fan, 1))


def kaiming_normal_(parameter: Variable, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu",
                    generator: np.random.Generator | None = None) -> Variable:
    """N(0, gain² / fan), He et al., 2015; with the defaults the same as :func:`he_normal`."""
    return normal_(parameter, 0.0, _kaiming_std(parameter, a, mode, nonlinearity), generator)


def kaiming_uniform_(parameter: Variable, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu",
                     generator: np.random.Generator | None = None) -> Variable:
    """U(−b, b) with b = gain · √(3 / fan), He et al., 2015."""
    bound = math.sqrt(3.0) * _kaiming_std(parameter, a, mode, nonlinearity)
    return uniform_(parameter, -bound, bound, generator)


def xavier_normal_(parameter: Variable, gain: float = 1.0, generator: np.random.Generator | None = None) -> Variable:
    """N(0, gain² · 2 / (fan_in + fan_out)), Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural
    networks", 2010."""
    return normal_(parameter, 0.0, gain * math.sqrt(2.0 / max(sum(fans(parameter.shape)), 1)), generator)


def xavier_uniform_(parameter: Variable, gain: float = 1.0, generator: np.random.Generator | None = None) -> Variable:
    """U(−b, b) with b = gain · √(6 / (fan_in + fan_out)), Glorot and Bengio, 2010, equation 16."""
    bound = gain * math.sqrt(6.0 / max(sum(fans(parameter.shape)), 1))
    return uniform_(parameter, -bound, bound, generator)


def orthogonal_(parameter: Variable, gain: float = 1.0, generator: np.random.Generator | None = None) -> Variable:
    """A (semi-)orthogonal matrix (out, rest), from the QR decomposition of a normal one; Saxe et al., "Exact solutions to the
    nonlinear dynamics of learning in deep linear neural networks", 2013."""
    fans(parameter.shape)
    rows, columns = parameter.shape[0], math.prod(parameter.shape[1:])
    drawn = _generator(generator).standard_normal((max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(drawn)
    q *= np.where(np.diag(r) < 0, -1.0, 1.0)               # makes the decomposition unique, and q uniformly distributed
    parameter.array[...] = gain * (q if rows >= columns else q.T).reshape(parameter.shape)
    return parameter
