"""Checks that a graph is well formed; run after tracing and after every pass."""

from __future__ import annotations

from ..errors import InternalError
from .graph import Graph, Value
from .spec import TensorSpec


def _same(left: TensorSpec, right: TensorSpec) -> bool:
    return left.shape == right.shape and left.dtype == right.dtype


def verify(graph: Graph, after: str = "tracing") -> None:
    """Raise :class:`InternalError` if an input is not defined before its use, an output does not have the type that its operator
    infers, a layout does not fit its shape, or an update changes a variable's type."""
    known: set[Value] = set(graph.inputs) | set(graph.variables)

    def check(value: Value, where: str) -> None:
        if value.graph is not graph:
            raise InternalError(f"after {after}: a value of another graph is used", where=where, got=repr(value))
        if value.node is not None and value not in known:
            raise InternalError(f"after {after}: a value is used before it is made", where=where, got=repr(value))

    for node in graph.nodes:
        where = f"{node.path} {node.op.name}"
        for value in node.inputs:
            check(value, where)
        expected = node.op.infer(*(value.spec for value in node.inputs))
        if len(expected) != len(node.outputs) or not all(
                _same(value.spec, spec) for value, spec in zip(node.outputs, expected, strict=True)):
            raise InternalError(f"after {after}: the outputs do not have the types that the operator infers", where=where,
                                got=[str(value.spec) for value in node.outputs], expected=[str(spec) for spec in expected])
        for value in node.outputs:
            if not value.spec.layout.fits(value.shape):
                raise InternalError(f"after {after}: the layout does not fit the shape", where=where, got=repr(value))
        known.update(node.outputs)
    for value in graph.outputs:
        check(value, "outputs")
    for old, new in graph.updates.items():
        check(new, f"update of {old.name}")
        if not _same(old.spec, new.spec):
            raise InternalError(f"after {after}: an update changes a variable's type", where=old.name, got=new.spec,
                                expected=old.spec)
