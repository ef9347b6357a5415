"""The pass that merges loss, gradient and hits of the same logits."""

from __future__ import annotations

import pytest

from clnn import ops
from clnn.autodiff import differentiate
from clnn.errors import ArgumentError
from clnn.ir import Graph, TensorSpec, verify
from clnn.passes.eliminate_dead_code import eliminate_dead_code
from clnn.passes.fuse_cross_entropy import fuse_cross_entropy
from clnn.target import GENERIC_CPU


def training_graph(loss_of, hits: bool = True) -> Graph:
    """Loss, gradient in the logits and, if wanted, hits."""
    graph = Graph()
    logits, labels = graph.input(TensorSpec((4, 10)), "logits"), graph.input(TensorSpec((4,), "int32"), "labels")
    with graph.scope("loss"):
        loss = loss_of(logits, labels)
    gradient = differentiate(graph, [loss], [graph.constant(1.0)], [logits])
    graph.outputs = [loss, *gradient, *([ops.sum(ops.accuracy_hits(logits, labels))] if hits else [])]
    return graph


def fused(graph: Graph) -> str:
    before = str(graph)
    result = fuse_cross_entropy(graph, GENERIC_CPU)
    verify(result, after="fuse_cross_entropy")
    assert str(graph) == before, "a pass leaves its graph alone"
    return str(result)


BEFORE = """\
input @logits: float32[4,10]
input @labels: int32[4]
%0: float32[4] = CrossEntropy(soft=False, smoothing=0.0, ignore_index=None) <- @logits, @labels    # loss
%1: float32[1] = Reduce(kind=sum, axes=(0,)) <- %0    # loss
%2: float32[] = Reshape(shape=()) <- %1    # loss
%3: float32[1] = Reshape(shape=(1,)) <- 1    # loss
%4: float32[4] = Expand(shape=(4,)) <- %3    # loss
%5: float32[4,10] = CrossEntropyGrad(soft=False, smoothing=0.0, ignore_index=None) <- @logits, @labels, %4    # loss
%6: float32[4] = Hits(soft=False) <- @logits, @labels
%7: float32[1] = Reduce(kind=sum, axes=(0,)) <- %6
%8: float32[] = Reshape(shape=()) <- %7
return %2, %5, %8"""

AFTER = """\
input @logits: float32[4,10]
input @labels: int32[4]
%0: float32[1] = Reshape(shape=(1,)) <- 1    # loss
%1: float32[4] = Expand(shape=(4,)) <- %0    # loss
%2: float32[4], %3: float32[4,10], %4: float32[4] = \
SoftmaxCrossEntropy(soft=False, smoothing=0.0, ignore_index=None, parts=('rows', 'grad', 'hits')) \
<- @logits, @labels, %1    # loss
%5: float32[1] = Reduce(kind=sum, axes=(0,)) <- %2    # loss
%6: float32[] = Reshape(shape=()) <- %5    # loss
%7: float32[1] = Reduce(kind=sum, axes=(0,)) <- %4
%8: float32[] = Reshape(shape=()) <- %7
return %6, %3, %8"""


def test_loss_gradient_and_hits_become_one_node():
    graph = training_graph(lambda x, t: ops.cross_entropy(x, t, reduction="sum"))
    assert str(graph) == BEFORE
    assert fused(graph) == AFTER


def test_an_ignored_label_does_not_hinder():
    text = fused(training_graph(lambda x, t: ops.cross_entropy(x, t, ignore_index=3), hits=False))
    assert "ignore_index=3, parts=('rows', 'grad'))" in text
    assert "CrossEntropyGrad" not in text


def test_a_gradient_that_needs_the_loss_stays_apart():
    def squared(x, t):
        loss = ops.cross_entropy(x, t)
        return ops.mul(loss, loss)

    text = fused(training_graph(squared))
    assert "parts=('rows', 'hits'))" in text
    assert "CrossEntropyGrad(" in text


def test_different_attributes_stay_apart():
    text = fused(training_graph(
        lambda x, t: ops.add(ops.cross_entropy(x, t), ops.cross_entropy(x, t, label_smoothing=0.1)), hits=False))
    assert text.count("SoftmaxCrossEntropy(") == 2
    assert "smoothing=0.0, ignore_index=None, parts=('rows', 'grad'))" in text
    assert "smoothing=0.1, ignore_index=None, parts=('rows', 'grad'))" in text


def test_losses_that_need_each_other_make_no_cycle():
    graph = Graph()
    logits, labels = graph.input(TensorSpec((4, 10)), "logits"), graph.input(TensorSpec((4,), "int32"), "labels")
    loss = ops.mul(ops.cross_entropy(logits, labels), ops.cross_entropy(logits, labels, label_smoothing=0.1))
    graph.outputs = [loss, *differentiate(graph, [loss], [graph.constant(1.0)], [logits])]
    text = fused(graph)
    assert text.count("parts=('rows', 'grad'))") == 1
    assert text.count("CrossEntropyGrad(") == 1


def test_a_lone_loss_stays_as_it_is():
    graph = Graph()
    logits, labels = graph.input(TensorSpec((4, 10)), "logits"), graph.input(TensorSpec((4,), "int32"), "labels")
    graph.outputs = [ops.cross_entropy(logits, labels)]
    assert fused(graph) == str(graph)


def test_dead_parts_are_dropped():
    graph = fuse_cross_entropy(training_graph(lambda x, t: ops.cross_entropy(x, t)), GENERIC_CPU)
    graph.outputs = graph.outputs[1:2]
    text = str(eliminate_dead_code(graph, GENERIC_CPU))
    assert "parts=('grad',))" in text
    op = ops.SoftmaxCrossEntropy(False, 0.0, None, ("rows", "grad"))
    assert op.without_outputs({1}) is None, "the cotangent would remain without use"


def test_the_fused_operator_checks_its_parts():
    graph = Graph()
    logits, labels = graph.input(TensorSpec((4, 10)), "logits"), graph.input(TensorSpec((4,), "int32"), "labels")
    with pytest.raises(ArgumentError, match="not in order"):
        graph.add(ops.SoftmaxCrossEntropy(False, 0.0, None, ("hits", "rows")), [logits, labels])
    with pytest.raises(ArgumentError, match="third input"):
        graph.add(ops.SoftmaxCrossEntropy(False, 0.0, None, ("rows", "grad")), [logits, labels])
