"""Graphs: values in single assignment, the nodes that make them, and the variables they update."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..errors import ArgumentError, InternalError
from .op import Op
from .spec import TensorSpec
from .variable import Variable


class Value:
    """A tensor in a graph: an input, a variable, a constant, or one output of a node. Compared by identity."""

    __slots__ = ("graph", "index", "name", "node", "source", "spec")

    def __init__(self, graph: Graph, spec: TensorSpec, name: str, node: Node | None = None, index: int = 0,
                 source: Variable | np.ndarray | str | None = None):
        self.graph, self.spec, self.name, self.node, self.index, self.source = graph, spec, name, node, index, source

    @property
    def shape(self) -> tuple[int, ...]:
        return self.spec.shape

    @property
    def dtype(self) -> str:
        return self.spec.dtype

    @property
    def kind(self) -> str:
        """``temporary``, ``variable``, ``constant`` or ``input``."""
        if self.node is not None:
            return "temporary"
        if isinstance(self.source, Variable):
            return "variable"
        return "constant" if isinstance(self.source, np.ndarray) else "input"

    @property
    def path(self) -> str:
        """The layer path of the producer, for messages."""
        return self.node.path if self.node is not None else self.name

    def __repr__(self) -> str:
        return f"%{self.name}: {self.spec}"


@dataclass(eq=False)
class Node:
    """One application of an operator."""

    op: Op
    inputs: tuple[Value, ...]
    path: str
    outputs: tuple[Value, ...] = ()
    #: the lowering that a pass has chosen, and the refusals that led to it: [(lowering, reason)]
    lowering: str | None = None
    refusals: list[tuple[str, str]] = field(default_factory=list)
    #: the launches of the chosen lowering (clnn.codegen.lowering.Offer)
    offer: object = None
    #: what the tuner says about the choice
    note: str = ""


class Graph:
    """A program: nodes in topological order.

    ``inputs`` are bound at every run, ``outputs`` are what the user reads, ``updates`` maps the value of a variable to the value
    that replaces it when the run ends.
    """

    def __init__(self) -> None:
        self.inputs: list[Value] = []
        self.nodes: list[Node] = []
        self.outputs: list[Value] = []
        self.updates: dict[Value, Value] = {}
        #: (seed, step), whole-number variables that random operators read; without them both are 0
        self.random: tuple[Variable, Variable] | None = None
        self.salts = 0
        #: what passes have to say about their choices
        self.notes: list[str] = []
        self._variables: dict[int, Value] = {}
        self._scopes: list[str] = []
        self._counter = 0

    # -- building ---------------------------------------------------------------------------------------------------

    def _fresh(self, stem: str) -> str:
        self._counter += 1
        return f"{stem}{self._counter}"

    def input(self, spec: TensorSpec, name: str) -> Value:
        """A tensor bound at every run."""
        if any(value.name == name for value in self.inputs):
            raise ArgumentError("two inputs of a graph have one name", got=name)
        value = Value(self, spec, name, source=name)
        self.inputs.append(value)
        return value

    def variable(self, variable: Variable) -> Value:
        """The current value of a variable; one value per variable and graph."""
        if id(variable) not in self._variables:
            name = variable.name or self._fresh("var")
            self._variables[id(variable)] = Value(self, variable.spec, name, source=variable)
        return self._variables[id(variable)]

    @property
    def variables(self) -> list[Value]:
        return list(self._variables.values())

    def constant(self, array: np.ndarray | float, dtype: str = "float32") -> Value:
        array = np.asarray(array, dtype=dtype, order="C")      # ascontiguousarray would give scalars an axis
        return Value(self, TensorSpec(array.shape, dtype), self._fresh("const"), source=array)

    def add(self, op: Op, inputs: Sequence[Value], path: str | None = None) -> tuple[Value, ...]:
        """Append a node; returns its outputs."""
        for value in inputs:
            if value.graph is not self:
                raise ArgumentError("a value of another graph was used", where=self.path, got=repr(value),
                                    hint="use values only inside the function that was traced")
        specs = op.infer(*(value.spec for value in inputs))
        return self.append(op, inputs, specs, path).outputs

    def append(self, op: Op, inputs: Sequence[Value], specs: Sequence[TensorSpec], path: str | None = None) -> Node:
        """Append a node whose output specs are known; passes use it."""
        node = Node(op, tuple(inputs), self.path if path is None else path)
        node.outputs = tuple(Value(self, spec, self._fresh("t"), node, i) for i, spec in enumerate(specs))
        self.nodes.append(node)
        return node

    @contextlib.contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Nodes added inside carry ``name`` in their path."""
        self._scopes.append(name)
        try:
            yield
        finally:
            self._scopes.pop()

    @property
    def path(self) -> str:
        return ".".join(scope for scope in self._scopes if scope)

    # -- rewriting --------------------------------------------------------------------------------------------------

    def clone(self) -> Graph:
        """An independent copy that shares variables and constants."""
        copy, mapped = Graph(), {}
        copy._counter, copy.notes = self._counter, list(self.notes)
        for value in self.inputs:
            mapped[value] = copy.input(value.spec, value.name)

        def take(value: Value) -> Value:
            if value not in mapped:
                mapped[value] = Value(copy, value.spec, value.name, source=value.source)
            return mapped[value]

        for key, value in self._variables.items():
            copy._variables[key] = take(value)
        for node in self.nodes:
            twin = Node(node.op, tuple(take(value) for value in node.inputs), node.path, (), node.lowering, list(node.refusals),
                        node.offer, node.note)
            twin.outputs = tuple(Value(copy, value.spec, value.name, twin, value.index) for value in node.outputs)
            mapped.update(zip(node.outputs, twin.outputs, strict=True))
            copy.nodes.append(twin)
        copy.outputs = [take(value) for value in self.outputs]
        copy.updates = {take(old): take(new) for old, new in self.updates.items()}
        return copy

    def users(self) -> dict[Value, list[Node]]:
        """The nodes that read each value, in order, one entry per reading node."""
        readers: dict[Value, list[Node]] = {}
        for node in self.nodes:
            for value in dict.fromkeys(node.inputs):
                readers.setdefault(value, []).append(node)
        return readers

    def producers(self, value: Value) -> set[Node]:
        """All nodes that ``value`` depends on."""
        found: set[Node] = set()
        stack = [value.node] if value.node is not None else []
        while stack:
            node = stack.pop()
            if node not in found:
                found.add(node)
                stack += [v.node for v in node.inputs if v.node is not None]
        return found

    def kept(self) -> set[Value]:
        """Values that must exist when the run ends."""
        return {*self.outputs, *self.updates.values()}

    def replace(self, replacements: dict[Value, Value]) -> None:
        """Redirect every use of the keys to their values."""
        def resolve(value: Value) -> Value:
            while value in replacements:
                value = replacements[value]
            return value

        for node in self.nodes:
            if not replacements.keys().isdisjoint(node.inputs):
                node.inputs = tuple(resolve(value) for value in node.inputs)
        self.outputs = [resolve(value) for value in self.outputs]
        self.updates = {old: resolve(new) for old, new in self.updates.items()}

    def remove(self, nodes: set[Node]) -> None:
        self.nodes = [node for node in self.nodes if node not in nodes]

    def sort(self) -> None:
        """Restore topological order, keeping the present order where it is free."""
        placed: set[Node] = set()
        ordered: list[Node] = []
        members = set(self.nodes)
        for root in self.nodes:
            if root in placed:
                continue
            for value in root.inputs:
                if value.node is not None and value.node not in placed:
                    break
            else:               # stands right already, as most do
                placed.add(root)
                ordered.append(root)
                continue
            stack = [(root, False)]
            while stack:
                node, ready = stack.pop()
                if node in placed:
                    continue
                if ready:
                    placed.add(node)
                    ordered.append(node)
                    continue
                stack.append((node, True))
                for value in reversed(node.inputs):
                    if value.node is not None and value.node not in placed:
                        if value.node not in members:
                            raise InternalError("a node reads a value whose producer was removed", where=node.path, got=value)
                        stack.append((value.node, False))
        self.nodes = ordered

    def __str__(self) -> str:
        from .printer import format_graph
        return format_graph(self)
