"""Batch normalisation beside PyTorch: results, gradients, running statistics, and that updates may be written in place."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from harness import check_close, run_offer

import clnn
from clnn import ops
from clnn.codegen.lowering import Tail, attach_tails
from clnn.errors import ArgumentError, ShapeError
from clnn.ir import NHWC, ROW, Graph, TensorSpec, Variable
from clnn.passes import TRAINING, run_passes
from clnn.plan import make_plan
from clnn.plan.schedule import overwrites_in_place
from clnn.runtime import Executable
from clnn.target import GENERIC_CPU, GENERIC_GPU

torch = pytest.importorskip("torch")
F = torch.nn.functional
SHAPES = [(6, 4), (3, 5, 7, 2), (4, 16, 9, 9), (2, 3, 8)]
RNG = np.random.default_rng(8)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("shape", SHAPES)
def test_training_agrees_with_torch(shape, device):
    channels = shape[1]
    arrays = [normal(*shape) * 2 + 3, normal(channels), normal(channels)]
    cotangent = normal(*shape)
    tensors = [torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in arrays]
    expected = F.batch_norm(tensors[0], None, None, tensors[1], tensors[2], training=True)
    expected.backward(torch.tensor(cotangent, dtype=torch.float64))
    got, gradients = clnn.vjp(lambda x, w, b: ops.batch_norm(x, None, None, w, b, training=True), *arrays, cotangent=cotangent,
                              device=device)
    np.testing.assert_allclose(got, expected.detach().numpy(), rtol=1e-4, atol=1e-5)
    for gradient, tensor in zip(gradients, tensors, strict=True):
        scale = float(tensor.grad.abs().max())
        np.testing.assert_allclose(gradient, tensor.grad.numpy(), rtol=1e-4, atol=2e-5 * scale)


@pytest.mark.parametrize("uses", [1, 2])
@pytest.mark.parametrize("momentum", [0.1, 0.7])
def test_running_statistics(uses, momentum, device_session):
    """The update is PyTorch's; a layer that is used twice is updated twice."""
    x = [normal(4, 3, 5, 2) + 1, normal(4, 3, 5, 2) * 3]
    running = normal(3), np.abs(normal(3)) + 0.5
    expected = [torch.tensor(r.copy()) for r in running]
    for batch in x[:uses]:
        F.batch_norm(torch.tensor(batch), *expected, training=True, momentum=momentum)
    variables = [Variable(r.copy(), name) for r, name in zip(running, ("mean", "var"), strict=True)]

    graph = Graph()
    values = [graph.input(TensorSpec(batch.shape), f"x{i}") for i, batch in enumerate(x[:uses])]
    graph.outputs = [ops.batch_norm(value, *variables, training=True, momentum=momentum) for value in values]
    executable = Executable(make_plan(run_passes(graph, device_session.target, TRAINING), device_session.target), device_session)
    for value, array in zip(values, x, strict=False):
        executable.write(value.name, array)
    executable.run()
    for variable, wanted in zip(variables, expected, strict=True):
        np.testing.assert_allclose(device_session.pull(variable), wanted.numpy(), rtol=1e-5, atol=1e-6)
    device_session.release(variables)


@pytest.mark.parametrize("shape", SHAPES)
def test_inference_agrees_with_torch(shape, device):
    channels = shape[1]
    x, mean, var = normal(*shape), normal(channels), np.abs(normal(channels)) + 0.1
    weight, bias = normal(channels), normal(channels)
    got = clnn.evaluate(lambda v: ops.batch_norm(v, mean, var, weight, bias), x, device=device)
    expected = F.batch_norm(*(torch.tensor(a) for a in (x, mean, var, weight, bias)))
    np.testing.assert_allclose(got, expected.numpy(), rtol=1e-4, atol=1e-5)


def test_layers_of_many_shapes_share_a_program(device):
    """Kernels of one source text must not define each other's names."""
    arrays = [normal(*shape) for shape in (*SHAPES, (3, 8), (2, 2, 2, 2), (2, 3, 2, 4))]

    def total(*values):
        terms = [ops.sum(ops.mul(y, y)) for y in (ops.batch_norm(v, None, None, training=True, eps=0.1) for v in values)]
        return functools.reduce(ops.add, terms)

    got, gradients = clnn.vjp(total, *arrays, device=device)
    tensors = [torch.tensor(a, requires_grad=True) for a in arrays]
    expected = sum(F.batch_norm(t, None, None, training=True, eps=0.1).square().sum() for t in tensors)
    expected.backward()
    np.testing.assert_allclose(got, expected.item(), rtol=1e-5)
    for gradient, tensor in zip(gradients, tensors, strict=True):
        np.testing.assert_allclose(gradient, tensor.grad.numpy(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("layout", [ROW, NHWC], ids=str)
@pytest.mark.parametrize("shape", [(9, 3, 31, 17), (6, 40, 16, 16), (5, 70, 1, 1)])
@pytest.mark.parametrize("operator, count", [(ops.BatchNorm, 2), (ops.BatchNormGrad, 3)])
def test_kernels_for_a_gpu(operator, count, shape, layout, device_session):
    """What is generated for a GPU, in several parts per channel, gives the same numbers."""
    op, vector = operator(1e-5), TensorSpec(shape[1:2])
    big = (TensorSpec(shape, layout=layout),) * (count - 1)
    inputs = (*big, *(vector,) * count)
    outputs = (big[0], vector, vector)
    arrays = [RNG.uniform(0.5, 2, spec.shape).astype(np.float32) for spec in inputs]
    offer = op.lowerings[-1].offer(op, inputs, outputs, GENERIC_GPU)
    got = run_offer(op, offer, arrays, inputs, outputs, device_session)
    for number, (g, e) in enumerate(zip(got, op.reference(*(a.astype(np.float64) for a in arrays)), strict=True)):
        check_close(g, e, 5e-5, f"output {number}")


def test_a_large_mean_costs_no_accuracy(device):
    """Border values of 0 among 1000 ± 1 defeat shifting by the first element."""
    x = (normal(8, 2, 15, 17) + 1000).astype(np.float32)
    x[0, :, 0, 0] = 0
    got = clnn.evaluate(lambda v: ops.batch_norm(v, None, None, training=True), x, device=device)
    wide = x.astype(np.float64)
    expected = (wide - wide.mean((0, 2, 3), keepdims=True)) / np.sqrt(wide.var((0, 2, 3), keepdims=True) + 1e-5)
    np.testing.assert_allclose(got, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("target", [GENERIC_CPU, GENERIC_GPU], ids=["cpu", "gpu"])
@pytest.mark.parametrize("operator, index, source", [(ops.BatchNorm, 1, None), (ops.BatchNormGrad, 1, 4)])
def test_updates_can_overwrite_what_they_read(operator, index, source, target):
    """A tail that updates a variable from mean or dgamma may write over that variable, even over gamma itself."""
    vector = TensorSpec((32,))
    op = operator(1e-5)
    inputs = (TensorSpec((8, 32, 9, 9)),) * (2 if source else 1) + (vector,) * (3 if source else 2)
    outputs = op.infer(*inputs)
    graph = Graph()
    old = graph.variable(Variable(np.zeros(32, np.float32), "old"))
    values = [old if i == source else graph.input(spec, f"x{i}") for i, spec in enumerate(inputs)]
    node = graph.append(op, [*values, old], outputs)
    offer = op.lowerings[-1].offer(op, inputs, outputs, target)
    tail = Tail((clnn.codegen.expr.arg(0) + clnn.codegen.expr.arg(1),), (vector,), (vector,))
    node.offer = attach_tails(offer, {index: tail}, len(inputs), len(outputs))
    assert overwrites_in_place(old, node.outputs[index])


def test_errors_speak(device):
    def attempt(x, *args, **kwargs):
        clnn.evaluate(lambda v: ops.batch_norm(v, *args, **kwargs), x, device=device)

    ones = np.ones(3, np.float32)
    with pytest.raises(ShapeError, match="more than 1 value per channel"):
        attempt(normal(1, 3), None, None, training=True)
    with pytest.raises(ShapeError, match="batch axis and a channel axis"):
        attempt(normal(3), None, None, training=True)
    with pytest.raises(ShapeError, match="the weight needs one element per channel"):
        attempt(normal(4, 2), None, None, ones, training=True)
    with pytest.raises(ShapeError, match="running_mean needs one element per channel"):
        attempt(normal(4, 2), ones, ones)
    with pytest.raises(ArgumentError, match="must be a variable"):
        attempt(normal(4, 3), ones, ones, training=True)
    with pytest.raises(ArgumentError, match="both running statistics"):
        attempt(normal(4, 3), ones, None)
