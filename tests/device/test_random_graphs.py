"""Random training graphs on the device beside their meaning in float64: fusion, schedule, memory and updates in place together."""

from __future__ import annotations

import numpy as np
import pytest
from random_graphs import interpret, random_training_graph

from clnn.compiler import build
from clnn.config import config
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
