"""Random training graphs on the device beside their meaning in float64: fusion, schedule, memory, updates in place."""

from __future__ import annotations

import numpy as np
import pytest
from random_graphs import interpret, random_training_graph

from clnn import ops
from clnn.compiler import build
from clnn.config import config
from clnn.ir import Graph, TensorSpec, Variable
from clnn.passes import TRAINING

#: largest error on the scale of each tensor; gradients of normalisations over few elements lose most
TOLERANCE = 5e-4


@pytest.mark.parametrize("layout", ["auto", "NHWC"])
@pytest.mark.parametrize("seed", range(12))
def test_a_step_computes_what_the_graph_means(seed, layout, device_session):
    graph, arrays = random_training_graph(seed)
    expected, updates = interpret(graph, arrays)
    with config.override(layout=layout):
        _, executable = build(graph, device_session, TRAINING)
    for name, array in arrays.items():
        executable.write(name, array)
    executable.run()
    found = {f"output {i}": (executable.read(value), expected[i]) for i, value in enumerate(executable.plan.outputs)}
    variables = [value.source for value in graph.variables]
    for variable in variables:
        device_session.pull(variable)
    device_session.release(variables)
    found |= {v.name: (v.array, updates[v.name]) for v in variables if v.name in updates}
    for name, (got, wanted) in found.items():
        scale = max(float(np.abs(wanted).max(initial=0)), 1e-2)
        assert np.abs(got - wanted).max(initial=0) <= TOLERANCE * scale, name


UPDATES = {
    "output of the old value": (lambda x, a, b: ([a], {a: ops.add(a, x)}), [1], 101, 10),
    "output of a view of it": (lambda x, a, b: ([ops.reshape(a, (1, 3))], {a: ops.add(a, x)}), [1], 101, 10),
    "output of the new value": (lambda x, a, b: ([new := ops.add(a, x)], {a: new}), [101], 101, 10),
    "swap": (lambda x, a, b: ([ops.add(a, b)], {a: b, b: a}), [11], 10, 1),
    "history": (lambda x, a, b: ([], {a: ops.add(a, x), b: a}), [], 101, 1),
    "history, the other order": (lambda x, a, b: ([], {b: a, a: ops.add(a, x)}), [], 101, 1),
    "one new value for both": (lambda x, a, b: ([], dict.fromkeys((a, b), ops.add(a, b))), [], 11, 11),
    "each needs the other": (lambda x, a, b: ([], {a: ops.sub(a, b), b: ops.add(a, b)}), [], -9, 11),
    "itself": (lambda x, a, b: ([ops.add(a, x)], {a: a, b: ops.add(b, a)}), [101], 1, 11),
}


@pytest.mark.parametrize("name, dtype", [*((name, "float32") for name in UPDATES), ("swap", "int32")])
def test_updates_happen_at_once_at_the_end(name, dtype, device_session):
    """Whatever reads a variable sees its old value, and whatever reads its new value sees that."""
    make, outputs, new_a, new_b = UPDATES[name]
    graph = Graph()
    x = graph.input(TensorSpec((3,)), "x")
    a, b = (Variable(np.full(3, value, dtype), f"v{value}") for value in (1, 10))
    graph.outputs, graph.updates = make(x, graph.variable(a), graph.variable(b))
    _, executable = build(graph, device_session, TRAINING)
    executable.write("x", np.full(3, 100, np.float32))
    executable.run()
    got = [executable.read(value).reshape(-1).tolist() for value in executable.plan.outputs]
    for variable, expected in ((a, new_a), (b, new_b)):
        np.testing.assert_array_equal(device_session.pull(variable), np.full(3, expected))
    device_session.release([a, b])
    assert got == [[value] * 3 for value in outputs]
