"""The base class of operators and of the samples that test them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from .spec import TensorSpec

if TYPE_CHECKING:
    from .graph import Value


@dataclass(frozen=True)
class Op:
    """What an operator computes, not how.

    A subclass is a frozen dataclass whose fields are its attributes, so that two equal operators on equal inputs are the same
    computation. It lives in one place with its shape rule, gradient, reference, cost, lowerings and samples.
    """

    #: outputs whose store goes through the kernel's hook, so that a pointwise tail can be fused into it
    tail_outputs: ClassVar[tuple[int, ...]] = ()

    @property
    def name(self) -> str:
        return type(self).__name__

    def infer(self, *inputs: TensorSpec) -> tuple[TensorSpec, ...]:
        """The specs of the outputs; raises :class:`clnn.errors.ClnnError` for inputs that do not fit."""
        raise NotImplementedError(self.name)

    def grad(self, inputs: tuple[Value, ...], outputs: tuple[Value, ...],
             cotangents: tuple[Value | None, ...]) -> tuple[Value | None, ...]:
        """The cotangents of the inputs, written with other operators; None where there is none."""
        return (None,) * len(inputs)

    def reference(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        """The outputs in numpy float64, as plainly as possible."""
        raise NotImplementedError(self.name)

    def flops(self, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> int:
        """Floating-point operations of the definition; a multiply-add counts two."""
        return sum(spec.size for spec in outputs)

    def bytes(self, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> int:
        """Bytes that must be moved if every tensor is touched once."""
        return sum(spec.nbytes for spec in (*inputs, *outputs))

    @property
    def lowerings(self) -> tuple:
        """Ways to compute it, best first; the last one always applies. See :mod:`clnn.codegen.lowering`."""
        raise NotImplementedError(self.name)

    def view_of(self) -> int | None:
        """The input whose storage the only output shares unchanged, if the operator is a mere view."""
        return None

    def without_outputs(self, dead: set[int]) -> Op | None:
        """The operator that makes only the other outputs, or None if there is none such."""
        return None

    @classmethod
    def samples(cls) -> list[Sample]:
        """Cases that the generic tests run: odd sizes, strides, groups, 1-sized axes."""
        return []

    def __str__(self) -> str:
        values = ", ".join(f"{key}={value}" for key, value in vars(self).items())
        return f"{self.name}({values})"


def normal(rng: np.random.Generator, spec: TensorSpec) -> np.ndarray:
    """Standard normal numbers; the default input of a sample."""
    return rng.standard_normal(spec.shape).astype(spec.dtype)


def distinct(rng: np.random.Generator, spec: TensorSpec) -> np.ndarray:
    """Numbers that lie far enough apart for finite differences of a maximum, and away from zero."""
    values = (np.arange(spec.size) - spec.size / 2 + 0.25) * (4.0 / max(spec.size, 8))
    return rng.permutation(values).reshape(spec.shape).astype(spec.dtype)


def positive(rng: np.random.Generator, spec: TensorSpec) -> np.ndarray:
    """Numbers in [0.5, 2)."""
    return rng.uniform(0.5, 2.0, spec.shape).astype(spec.dtype)


def integers(low: int, high: int) -> Callable:
    """A generator of whole numbers in [low, high)."""
    def generate(rng: np.random.Generator, spec: TensorSpec) -> np.ndarray:
        return rng.integers(low, high, spec.shape).astype(spec.dtype)
    return generate


@dataclass(frozen=True)
class Sample:
    """An operator with input specs, and how to fill each input (standard normal where nothing is said)."""

    op: Op
    inputs: tuple[TensorSpec, ...]
    fill: dict[int, Callable] = field(default_factory=dict)
    #: relative tolerance against the float64 reference, where the default is too strict
    tolerance: float | None = None
    #: whether finite differences make sense; not for operators that have no gradient or a random one
    differentiable: bool = True

    def arrays(self, seed: int = 0) -> tuple[np.ndarray, ...]:
        rng = np.random.default_rng(seed)
        return tuple(self.fill.get(i, normal)(rng, spec) for i, spec in enumerate(self.inputs))

    def __str__(self) -> str:
        return f"{self.op}({', '.join(str(spec) for spec in self.inputs)})"
