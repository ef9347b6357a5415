"""Random training graphs, and their meaning: what numpy makes of them node by node in float64."""

from __future__ import annotations

import numpy as np

from clnn import ops
from clnn.compiler import append_training
from clnn.ir import Graph, TensorSpec, Value, Variable
from clnn.ops.step import StepState
from clnn.optim import SGD, Adam

LARGEST = 700
UNARY = (ops.tanh, ops.sigmoid, ops.relu, ops.abs, ops.gelu, ops.silu, ops.neg, lambda x: ops.clip(x, -0.7, 0.9),
         lambda x: ops.mul(x, 0.5), lambda x: ops.exp(ops.neg(ops.abs(x))), lambda x: ops.pow(x, 2))
BINARY = (ops.add, ops.sub, ops.mul, ops.maximum, lambda a, b: ops.div(a, ops.add(ops.abs(b), 1.0)))


def interpret(graph: Graph, arrays: dict[str, np.ndarray]) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
    """(outputs, new value by variable name) of one run; nothing is rounded to single precision and no variable is changed."""
    known: dict[Value, np.ndarray] = {}

    def read(value: Value) -> np.ndarray:
        if value not in known:
            array = value.source
            array = arrays[value.name] if value.kind == "input" else array.array if value.kind == "variable" else array
            known[value] = array.astype(np.float64) if array.dtype.kind == "f" else array
        return known[value]

    for node in graph.nodes:
        for value, result in zip(node.outputs, node.op.reference(*(read(value) for value in node.inputs)), strict=True):
            known[value] = np.asarray(result)
    return [read(value) for value in graph.outputs], {old.source.name: read(new) for old, new in graph.updates.items()}


class Draw:
    """One random graph: a pool of values that grows by random operators."""

    def __init__(self, seed: int):
        self.rng = np.random.default_rng(seed)
        self.graph, self.state = Graph(), StepState(seed)
        self.graph.random = (self.state.seed, self.state.step)
        self.variables: list[Variable] = []
        shapes = (self.int(2, 6), self.int(1, 9)), (2, self.int(1, 5), self.int(3, 8), self.int(3, 8))
        self.pool = [self.graph.input(TensorSpec(shape), f"x{i}") for i, shape in enumerate(shapes)]
        self.arrays = {value.name: self.normal(*value.shape) for value in self.pool}
        for _ in range(self.int(4, 14)):
            value = self.grow()
            if value is not None and value.spec.size <= LARGEST:
                self.pool.append(value)

    def int(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def normal(self, *shape: int) -> np.ndarray:
        return self.rng.standard_normal(shape).astype(np.float32)

    def pick(self, choices):
        return choices[self.int(0, len(choices) - 1)]

    def variable(self, *shape: int, scale: float = 1.0, trainable: bool = True) -> Variable:
        array = self.normal(*shape) * np.float32(scale)
        self.variables.append(Variable(array, f"v{len(self.variables)}", trainable))
        return self.variables[-1]

    def grow(self) -> Value | None:
        """A new value from random ones of the pool, or None where the operator does not fit."""
        x = self.pick(self.pool)
        return self.pick((self.unary, self.unary, self.binary, self.binary, self.reduce, self.product, self.product,
                          self.convolution, self.convolution, self.norm, self.pool2d, self.move, self.dropout, self.softmax))(x)

    def unary(self, x):
        return self.pick(UNARY)(x)

    def binary(self, x):
        others = [y for y in self.pool if _broadcast(x.shape, y.shape)]
        other = self.graph.variable(self.variable(*x.shape[-1:])) if self.rng.random() < 0.3 and x.shape else self.pick(others)
        return self.pick(BINARY)(x, other)

    def reduce(self, x):
        axes = tuple(axis for axis in range(len(x.shape)) if self.rng.random() < 0.5) or None
        return self.pick((ops.sum, ops.mean, ops.max))(ops.mul(x, 0.25), axes, bool(self.rng.random() < 0.5)) if x.shape else None

    def product(self, x):
        if len(x.shape) != 2:
            return None
        n = self.int(1, 9)
        weight = self.variable(n, x.shape[1], scale=x.shape[1] ** -0.5)
        return ops.linear(x, weight, self.variable(n) if self.rng.random() < 0.6 else None)

    def convolution(self, x):
        if len(x.shape) != 4 or min(x.shape[2:]) < 2:
            return None
        k = self.int(1, 6)
        window = self.pick(((3, 3), (1, 1), (2, 3)))
        weight = self.variable(k, x.shape[1], *window, scale=(x.shape[1] * window[0] * window[1]) ** -0.5)
        return ops.conv2d(x, weight, self.variable(k) if self.rng.random() < 0.6 else None, stride=self.int(1, 2), padding=1)

    def norm(self, x):
        if len(x.shape) not in (2, 4) or x.spec.size // x.shape[1] < 3:
            return None
        c = x.shape[1]
        running = self.variable(c, trainable=False), self.variable(c, trainable=False)
        return ops.batch_norm(x, *running, self.variable(c), self.variable(c), training=True, eps=0.1)

    def pool2d(self, x):
        if len(x.shape) != 4 or min(x.shape[2:]) < 2:
            return None
        return self.pick((lambda v: ops.max_pool2d(v, 2), lambda v: ops.avg_pool2d(v, 2, 1),
                          lambda v: ops.max_pool2d(v, (2, 1), 2), ops.global_avg_pool2d))(x)

    def move(self, x):
        rank = len(x.shape)
        if rank == 0:
            return None
        others = [y for y in self.pool if len(y.shape) == rank and y.shape[1:] == x.shape[1:]]
        return self.pick((lambda: ops.flatten(x, min(1, rank - 1)), lambda: ops.reshape(x, (-1,)),
                          lambda: ops.transpose(x, [int(i) for i in self.rng.permutation(rank)]),
                          lambda: ops.concat([x, self.pick(others)]), lambda: ops.pad(x, (1, 0), 0.5),
                          lambda: ops.slice(x, [0] * rank, [max(1, n - 1) for n in x.shape], [2] * rank)))()

    def dropout(self, x):
        return ops.dropout(x, 0.3)

    def softmax(self, x):
        return self.pick((ops.softmax, ops.log_softmax))(x, -1) if x.shape else None


def _broadcast(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    try:
        return bool(np.broadcast_shapes(a, b)) or True
    except ValueError:
        return False


def random_training_graph(seed: int) -> tuple[Graph, dict[str, np.ndarray]]:
    """(graph, input arrays): some random values, their loss, gradients and optimiser updates of all variables."""
    drawn = Draw(seed)
    graph, state = drawn.graph, drawn.state
    read = {value for node in graph.nodes for value in node.inputs}
    leaves = [value for value in drawn.pool if value not in read] or drawn.pool[-1:]
    loss = graph.constant(0.0)
    for number, value in enumerate(leaves):
        loss = ops.add(loss, ops.mean(ops.mul(ops.tanh(value), drawn.rng.standard_normal(value.shape).astype(np.float32)
                                              if value.shape else float(number + 1))))
    state.rate.array[...] = 0.1
    optimizer = drawn.pick((SGD(0.1), SGD(0.1, 0.9, weight_decay=0.01), Adam(0.1)))
    before = set(graph._variables)
    append_training(graph, loss, drawn.variables, optimizer, graph.variable(state.rate), graph.variable(state.step))
    for value in graph.variables:                       # momentum that is not zero
        if id(value.source) not in before and value.source.shape:
            value.source.array[...] = np.abs(drawn.normal(*value.shape)) * 0.1
    graph.outputs = [loss, *(value for value in drawn.pool[2:] if drawn.rng.random() < 0.3)]
    return graph, drawn.arrays
