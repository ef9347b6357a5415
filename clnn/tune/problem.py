"""What is tuned: an operator on tensors of given shapes, whichever layer of whichever model it stands in.

The key of a problem holds the operator with its attributes and the specs of all tensors. Of fused tails it holds the tensors
that they read and write, not the expressions: what a tail moves costs time, what it computes hardly does, and so a convolution
with ReLU and one with GELU share what was measured.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
from collections import Counter
from dataclasses import dataclass

from ..codegen.expr import Expr
from ..codegen.lowering import Offer
from ..ir import Graph, Layout, Node, Op, TensorSpec
from ..ops.conv import Conv2dWgrad, Convolution
from ..ops.fused import Fused

#: attributes that only repeat extents of the tensors; problems that differ in them are of one family
EXTENTS = ("size", "shape", "output_size")


@dataclass(frozen=True)
class Problem:
    """An operator on given specs; equal problems have one answer."""

    op: Op
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @functools.cached_property
    def description(self) -> dict:
        """The problem as JSON can hold it: the text that decides whether two problems are one."""
        base, tails = (self.op.base, self.op.tails) if isinstance(self.op, Fused) else (self.op, ())
        return {"op": base.name, "attributes": _attributes(base),
                "tails": [[index, len(tail.exprs), count]
                          for (index, tail), count in zip(tails, getattr(self.op, "counts", ()), strict=True)],
                "inputs": [_spec(spec) for spec in self.inputs], "outputs": [_spec(spec) for spec in self.outputs]}

    @functools.cached_property
    def key(self) -> str:
        return _digest(self.description)

    @functools.cached_property
    def family(self) -> str:
        """The key of all problems that differ from this one in sizes only."""
        return self._likeness([*self.inputs, *self.outputs], self.description["tails"])

    @functools.cached_property
    def kin(self) -> str:
        """The key of all problems that differ from this one in sizes and in what is fused behind them only."""
        return self._likeness(self._bare)

    @property
    def sizes(self) -> list[int]:
        """All extents of all tensors, in order; those of one family are of equal number."""
        return [extent for spec in (*self.inputs, *self.outputs) for extent in spec.shape]

    @property
    def kin_sizes(self) -> list[int]:
        """The extents of the inputs, without those of tails; those of kin are of equal number."""
        return [extent for spec in self._bare[:-1] for extent in spec.shape]

    @property
    def _bare(self) -> list[TensorSpec]:
        """The inputs of the operator without its tails, and the first output."""
        base = self.op.base_inputs if isinstance(self.op, Fused) else len(self.inputs)
        return [*self.inputs[:base], self.outputs[0]]

    def _likeness(self, specs: list[TensorSpec], *more: object) -> str:
        base = self.op.base if isinstance(self.op, Fused) else self.op
        window: tuple[int, ...] = ()
        if isinstance(base, Convolution):
            window = base.window if isinstance(base, Conv2dWgrad) else self.inputs[1].shape[2:]
        attributes = {name: value for name, value in self.description["attributes"].items() if name not in EXTENTS}
        # a convolution with a filter for each channel has as many groups as channels, and is the same at any number of them
        if attributes.get("groups", 1) != 1 and attributes["groups"] == specs[0].shape[1]:
            attributes["groups"] = "channels"
        kinds = [[spec.rank, spec.dtype, str(spec.layout)] for spec in specs]
        return _digest([self.description["op"], attributes, *more, list(window), kinds])

    @property
    def flops(self) -> int:
        return self.op.flops(self.inputs, self.outputs)

    @property
    def bytes(self) -> int:
        return self.op.bytes(self.inputs, self.outputs)

    def __str__(self) -> str:
        shown = self.inputs[:getattr(self.op, "base_inputs", 2) or 2]
        return f"{self.op.name} {', '.join('x'.join(map(str, spec.shape)) or '1' for spec in shown)}"


def problem_of(node: Node) -> Problem:
    """The problem that a node poses."""
    return Problem(node.op, tuple(value.spec for value in node.inputs), tuple(value.spec for value in node.outputs))


def distinct_problems(graph: Graph) -> dict[str, tuple[Problem, list[Node]]]:
    """The problems of a graph by key, each with the nodes that pose it; nodes that launch nothing pose none."""
    found: dict[str, tuple[Problem, list[Node]]] = {}
    for node in graph.nodes:
        if isinstance(node.offer, Offer) and node.offer.launches:
            problem = problem_of(node)
            found.setdefault(problem.key, (problem, []))[1].append(node)
    return found


def distance(one: list[int], other: list[int]) -> float:
    """How far the sizes of two problems of one family lie apart: Euclidean, in octaves."""
    if len(one) != len(other):
        return math.inf
    total = 0.0
    for a, b in zip(one, other, strict=True):       # no generator: it is asked for every record of a family
        if a != b:
            total += math.log2((a or 1) / (b or 1)) ** 2
    return math.sqrt(total)


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:20]


def _spec(spec: TensorSpec) -> str:
    return f"{spec.dtype}[{','.join(map(str, spec.shape))}]" + (f" {spec.layout}" if spec.rank == 4 else "")


def _attributes(op: Op) -> dict[str, object]:
    return {field.name: _plain(getattr(op, field.name)) for field in dataclasses.fields(op)}


def _plain(value: object) -> object:
    """A field of an operator as JSON can hold it; of expressions, how often each function occurs."""
    if isinstance(value, (tuple, list)):
        if value and all(isinstance(item, Expr) for item in value):
            return dict(sorted(_functions(value).items()))
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value) if isinstance(value, Layout) else repr(value)


def _functions(exprs) -> Counter[str]:
    """How often each function occurs in expressions, shared parts counted once; constants, such as random salts, do not count."""
    seen: set[Expr] = set()
    stack = list(exprs)
    while stack:
        expr = stack.pop()
        if expr not in seen:
            seen.add(expr)
            stack += expr.args
    return Counter(expr.function for expr in seen if expr.function not in ("const", "arg"))
