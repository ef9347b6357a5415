"""Training graphs of networks: loss, scores and the gradient of every parameter."""

from __future__ import annotations

import numpy as np

from clnn import ops
from clnn.autodiff import differentiate
from clnn.compiler import build
from clnn.ir import Graph, TensorSpec
from clnn.nn import Module
from clnn.passes import TRAINING


def gradients_of(model: Module, x: np.ndarray, labels: np.ndarray,
                 session) -> tuple[Graph, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """(final graph, loss, logits, gradient by parameter name) of one training step.

    Running statistics are updated and pulled; the device copies of the variables are released.
    """
    graph = Graph()
    given, target = graph.input(TensorSpec(x.shape), "x"), graph.input(TensorSpec(labels.shape, "int32"), "labels")
    output = model(given)
    loss = ops.cross_entropy(output, target)
    names, parameters = zip(*model.named_parameters(), strict=True)
    gradients = differentiate(graph, [loss], [graph.constant(1.0)], [graph.variable(p) for p in parameters])
    graph.outputs = [loss, output, *gradients]
    final, executable = build(graph, session, TRAINING)
    executable.write("x", x)
    executable.write("labels", labels)
    executable.run()
    found = [executable.read(value) for value in executable.plan.outputs]
    for buffer in model.buffers():
        session.pull(buffer)
    session.release(model.state_variables().values())
    return final, found[0], found[1], dict(zip(names, found[2:], strict=True))
