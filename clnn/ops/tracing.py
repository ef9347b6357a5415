"""Turning what a user passes to an operator into values of the graph being traced."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import ArgumentError, ShapeError
from ..ir import Graph, Op, Value, Variable

Tensor = Value | Variable | np.ndarray | float


def graph_of(*tensors: object) -> Graph:
    """The graph that the arguments belong to."""
    for tensor in tensors:
        if isinstance(tensor, Value):
            return tensor.graph
    raise ArgumentError("an operator needs at least one symbolic value", got=[type(t).__name__ for t in tensors],
                        hint="call it inside a function given to clnn.evaluate, clnn.vjp or clnn.compile")


def as_value(graph: Graph, tensor: Tensor, like: str = "float32") -> Value:
    """A value of ``graph``: values pass, variables are captured, arrays and numbers become constants."""
    if isinstance(tensor, Value):
        return tensor
    if isinstance(tensor, Variable):
        return graph.variable(tensor)
    if isinstance(tensor, (int, float, np.number)):
        return graph.constant(tensor)
    if isinstance(tensor, (np.ndarray, list, tuple)):
        array = np.asarray(tensor)
        return graph.constant(array, like if array.dtype.kind == "f" else "int32")
    raise ArgumentError("this cannot be used as a tensor", got=type(tensor).__name__,
                        expected="a symbolic value, a parameter, a numpy array or a number")


def apply(op: Op, *tensors: Tensor) -> tuple[Value, ...]:
    """Append ``op`` to the graph of its arguments; returns all outputs."""
    graph = graph_of(*tensors)
    return graph.add(op, [as_value(graph, tensor) for tensor in tensors])


def axis_index(axis: int, rank: int, where: str) -> int:
    """A non-negative axis."""
    if not -rank <= axis < rank:
        raise ShapeError("axis out of range", where=where, got=axis, expected=f"{-rank} … {rank - 1}")
    return axis % rank


def axes_tuple(axes: int | Sequence[int] | None, rank: int, where: str) -> tuple[int, ...]:
    """Sorted non-negative axes; None means all."""
    if axes is None:
        return tuple(range(rank))
    if isinstance(axes, int):
        axes = (axes,)
    result = tuple(sorted(axis_index(axis, rank, where) for axis in axes))
    if len(set(result)) != len(result):
        raise ShapeError("an axis is given twice", where=where, got=tuple(axes))
    return result


def pair(value: int | Sequence[int], where: str, lowest: int) -> tuple[int, int]:
    """(vertical, horizontal) from a number or a pair."""
    values = (value, value) if isinstance(value, (int, np.integer)) else tuple(value) if isinstance(value, (tuple, list)) else ()
    if len(values) != 2 or any(not isinstance(v, (int, np.integer)) or v < lowest for v in values):
        raise ArgumentError("needs a whole number or a pair of them", where=where, got=value, expected=f"each at least {lowest}")
    return int(values[0]), int(values[1])
