"""Each pass: the graph's text before and after, and that the numbers stay the same."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from random_graphs import interpret, random_training_graph

from clnn import ops
from clnn.autodiff import differentiate
from clnn.config import config
from clnn.errors import ArgumentError
from clnn.ir import NHWC, ROW, Graph, TensorSpec, Variable, verify
from clnn.ops.relayout import Relayout
from clnn.passes import INFERENCE, TRAINING, run_passes
from clnn.passes.assign_layouts import assign_layouts
from clnn.passes.choose_lowerings import choose_lowerings
from clnn.passes.eliminate_dead_code import eliminate_dead_code
from clnn.passes.fold_constants import fold_constants
from clnn.passes.freeze_variables import freeze_variables
from clnn.passes.fuse_bias_gradient import fuse_bias_gradient
from clnn.passes.fuse_epilogues import fuse_epilogues
from clnn.passes.fuse_pointwise import fuse_pointwise
from clnn.passes.keep_old_values import keep_old_values
from clnn.passes.merge_duplicates import merge_duplicates
from clnn.passes.simplify_views import simplify_views
from clnn.target import GENERIC_CPU, GENERIC_GPU

RNG = np.random.default_rng(4)
MATMUL = "Matmul(transpose_a=False, transpose_b=True, row_sum=False)"
GRADIENT = "Matmul(transpose_a=True, transpose_b=False, row_sum={})"
WGRAD = "Conv2dWgrad(stride=(1, 1), padding=(0, 0, 0, 0), dilation=(1, 1), groups=1, window=(3, 3), row_sum={})"
CONV = "Conv2d(stride=(1, 1), padding=(1, 1, 1, 1), dilation=(1, 1), groups=1)"
POOL = "MaxPool2d(kernel=(2, 2), stride=(2, 2), padding=(0, 0), dilation=(1, 1), ceil_mode=False, with_index={})"


def begin(*shapes: tuple[int, ...]) -> tuple[Graph, ...]:
    """A graph and its inputs x0, x1, …"""
    graph = Graph()
    return graph, *(graph.input(TensorSpec(shape), f"x{i}") for i, shape in enumerate(shapes))


def variable(graph: Graph, name: str, *shape: int):
    return graph.variable(Variable(RNG.standard_normal(shape).astype(np.float32), name))


def text(graph: Graph) -> str:
    """What comes after the inputs and variables."""
    return "\n".join(line for line in str(graph).splitlines() if not line.startswith(("input", "variable")))


def inputs_of(graph: Graph) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {value.name: rng.standard_normal(value.shape).astype(np.float32) for value in graph.inputs}


def check_same_numbers(before: Graph, after: Graph, arrays: dict[str, np.ndarray] | None = None, tolerance: float = 1e-6) -> None:
    """Outputs and updates of two graphs agree."""
    arrays = inputs_of(before) if arrays is None else arrays
    (expected, updates), (got, new) = interpret(before, arrays), interpret(after, arrays)
    assert len(got) == len(expected) and new.keys() == updates.keys()
    for name, x, y in [*((f"output {i}", x, y) for i, (x, y) in enumerate(zip(expected, got, strict=True))),
                       *((name, updates[name], new[name]) for name in updates)]:
        scale = max(float(np.abs(x).max(initial=0)), 1e-3)
        assert x.shape == y.shape and np.abs(x - y).max(initial=0) <= tolerance * scale, name


def check(graph: Graph, before: str, after: str, *passes, target=GENERIC_CPU) -> Graph:
    """The passes turn one text into the other, leave their graph alone, and keep the numbers."""
    assert text(graph) == before.strip("\n")
    result = graph
    for apply in passes:
        result = apply(result, target)
        verify(result, after=apply.__name__)
    assert text(result) == after.strip("\n")
    assert text(graph) == before.strip("\n"), "a pass leaves its graph alone"
    check_same_numbers(graph, result)
    return result


# -- dead code ----------------------------------------------------------------------------------------------------------

def test_dead_nodes_and_outputs_are_removed():
    graph, x = begin((1, 1, 2, 2))
    ops.exp(x)
    graph.outputs = [ops.max_pool2d(x, 2)]
    check(graph, f"""
%0: float32[1,1,2,2] NCHW = Map(exprs=(exp(a),), dtypes=()) <- @x0
%1: float32[1,1,1,1] NCHW, %2: uint8[1,1,1,1] NCHW = {POOL.format(True)} <- @x0
return %1
""", f"""
%0: float32[1,1,1,1] NCHW = {POOL.format(False)} <- @x0
return %0
""", eliminate_dead_code)


def test_updates_keep_their_nodes():
    graph, x = begin((3,))
    state = variable(graph, "state", 3)
    graph.updates[state] = ops.add(state, x)
    unchanged = "%0: float32[3] = Map(exprs=(add(a, b),), dtypes=()) <- @state, @x0\nupdate @state <- %0\nreturn "
    check(graph, unchanged, unchanged, eliminate_dead_code)


def test_old_values_that_are_wanted_at_the_end_are_copied():
    graph, x = begin((3,))
    state, before = variable(graph, "state", 3), variable(graph, "before", 3)
    graph.outputs = [ops.reshape(state, (1, 3)), ops.exp(before)]
    graph.updates = {state: ops.add(state, x), before: state}
    check(graph, """
%0: float32[1,3] = Reshape(shape=(1, 3)) <- @state
%1: float32[3] = Map(exprs=(exp(a),), dtypes=()) <- @before
%2: float32[3] = Map(exprs=(add(a, b),), dtypes=()) <- @state, @x0
update @state <- %2
update @before <- @state
return %0, %1
""", """
%0: float32[1,3] = Reshape(shape=(1, 3)) <- @state
%1: float32[3] = Map(exprs=(exp(a),), dtypes=()) <- @before
%2: float32[3] = Map(exprs=(add(a, b),), dtypes=()) <- @state, @x0
%3: float32[1,3] = Map(exprs=(a,), dtypes=('float32',)) <- %0
%4: float32[3] = Map(exprs=(a,), dtypes=('float32',)) <- @state    # state
update @state <- %2
update @before <- %4
return %3, %1
""", keep_old_values)


# -- constants and variables ----------------------------------------------------------------------------------------------

def test_constants_are_folded():
    graph, x = begin((3,))
    graph.outputs = [ops.add(x, ops.sum(ops.mul(graph.constant([1.0, 2.0, 3.0]), 2.0)))]
    check(graph, """
%0: float32[3] = Map(exprs=(mul(a, 2),), dtypes=()) <- const(3,)
%1: float32[1] = Reduce(kind=sum, axes=(0,)) <- %0
%2: float32[] = Reshape(shape=()) <- %1
%3: float32[3] = Map(exprs=(add(a, b),), dtypes=()) <- @x0, %2
return %3
""", """
%0: float32[3] = Map(exprs=(add(a, b),), dtypes=()) <- @x0, 12
return %0
""", fold_constants)


def test_large_constants_stay_on_the_device(monkeypatch):
    monkeypatch.setattr(sys.modules["clnn.passes.fold_constants"], "LARGEST", 10)
    graph, x = begin((1,))
    graph.outputs = [ops.add(x, ops.expand(graph.constant([1.0]), (11,)))]
    unchanged = """
%0: float32[11] = Expand(shape=(11,)) <- 1
%1: float32[11] = Map(exprs=(add(a, b),), dtypes=()) <- @x0, %0
return %1
"""
    check(graph, unchanged, unchanged, fold_constants)


def test_variables_without_update_are_frozen():
    graph, x = begin((3,))
    weight, state = variable(graph, "weight", 3), variable(graph, "state", 3)
    graph.outputs = [ops.add(ops.mul(x, weight), state)]
    graph.updates[state] = ops.add(state, x)
    check(graph, """
%0: float32[3] = Map(exprs=(mul(a, b),), dtypes=()) <- @x0, @weight
%1: float32[3] = Map(exprs=(add(a, b),), dtypes=()) <- %0, @state
%2: float32[3] = Map(exprs=(add(a, b),), dtypes=()) <- @state, @x0
update @state <- %2
return %1
""", """
%0: float32[3] = Map(exprs=(mul(a, b),), dtypes=()) <- @x0, const(3,)
%1: float32[3] = Map(exprs=(add(a, b),), dtypes=()) <- %0, @state
%2: float32[3] = Map(exprs=(add(a, b),), dtypes=()) <- @state, @x0
update @state <- %2
return %1
""", freeze_variables)


# -- duplicates and views -----------------------------------------------------------------------------------------------

def test_equal_nodes_become_one():
    graph, x = begin((3,))
    graph.outputs = [ops.add(ops.exp(x), ops.exp(x)), ops.sum(ops.exp(x), 0), ops.sum(ops.exp(x), 0, keepdims=True)]
    check(graph, """
%0: float32[3] = Map(exprs=(exp(a),), dtypes=()) <- @x0
%1: float32[3] = Map(exprs=(exp(a),), dtypes=()) <- @x0
%2: float32[3] = Map(exprs=(add(a, b),), dtypes=()) <- %0, %1
%3: float32[3] = Map(exprs=(exp(a),), dtypes=()) <- @x0
%4: float32[1] = Reduce(kind=sum, axes=(0,)) <- %3
%5: float32[] = Reshape(shape=()) <- %4
%6: float32[3] = Map(exprs=(exp(a),), dtypes=()) <- @x0
%7: float32[1] = Reduce(kind=sum, axes=(0,)) <- %6
return %2, %5, %7
""", """
%0: float32[3] = Map(exprs=(exp(a),), dtypes=()) <- @x0
%1: float32[3] = Map(exprs=(add(a, b),), dtypes=()) <- %0, %0
%2: float32[1] = Reduce(kind=sum, axes=(0,)) <- %0
%3: float32[] = Reshape(shape=()) <- %2
return %1, %3, %2
""", merge_duplicates)


def test_dropout_layers_are_no_duplicates():
    graph, x = begin((8,))
    graph.outputs = [ops.dropout(x), ops.dropout(x)]
    assert len(merge_duplicates(graph, GENERIC_CPU).nodes) == 2


def test_views_of_views_look_at_the_tensor():
    graph, x = begin((2, 3, 4))
    first = graph.add(ops.Reshape((6, 4)), [x])[0]
    second = graph.add(ops.Reshape((4, 6)), [first])[0]
    back = graph.add(ops.Reshape((2, 3, 4)), [second])[0]
    graph.outputs = [ops.exp(second), ops.exp(back)]
    check(graph, """
%0: float32[6,4] = Reshape(shape=(6, 4)) <- @x0
%1: float32[4,6] = Reshape(shape=(4, 6)) <- %0
%2: float32[2,3,4] = Reshape(shape=(2, 3, 4)) <- %1
%3: float32[4,6] = Map(exprs=(exp(a),), dtypes=()) <- %1
%4: float32[2,3,4] = Map(exprs=(exp(a),), dtypes=()) <- %2
return %3, %4
""", """
%0: float32[4,6] = Reshape(shape=(4, 6)) <- @x0
%1: float32[4,6] = Map(exprs=(exp(a),), dtypes=()) <- %0
%2: float32[2,3,4] = Map(exprs=(exp(a),), dtypes=()) <- @x0
return %1, %2
""", simplify_views, eliminate_dead_code)


# -- bias gradients -----------------------------------------------------------------------------------------------------

def test_the_bias_gradient_of_a_linear_layer_joins_the_weight_gradient():
    graph, x, w, b, dy = begin((4, 3), (5, 3), (5,), (4, 5))
    graph.outputs = differentiate(graph, [ops.linear(x, w, b)], [dy], [w, b])
    check(eliminate_dead_code(graph, GENERIC_CPU), f"""
%0: float32[1,5] = Reduce(kind=sum, axes=(0,)) <- @x3
%1: float32[5] = Reshape(shape=(5,)) <- %0
%2: float32[5,3] = {GRADIENT.format(False)} <- @x3, @x0
return %2, %1
""", f"""
%0: float32[5,3], %1: float32[5] = {GRADIENT.format(True)} <- @x3, @x0
return %0, %1
""", fuse_bias_gradient, simplify_views, eliminate_dead_code)


def test_the_bias_gradient_of_a_convolution_joins_the_weight_gradient():
    graph, x, w, b, dy = begin((2, 3, 5, 5), (4, 3, 3, 3), (4,), (2, 4, 3, 3))
    graph.outputs = differentiate(graph, [ops.conv2d(x, w, b)], [dy], [w, b])
    check(eliminate_dead_code(graph, GENERIC_CPU), f"""
%0: float32[1,4,1,1] NCHW = Reduce(kind=sum, axes=(0, 2, 3)) <- @x3
%1: float32[4] = Reshape(shape=(4,)) <- %0
%2: float32[4,3,3,3] NCHW = {WGRAD.format(False)} <- @x0, @x3
return %2, %1
""", f"""
%0: float32[4,3,3,3] NCHW, %1: float32[4] = {WGRAD.format(True)} <- @x0, @x3
return %0, %1
""", fuse_bias_gradient, simplify_views, eliminate_dead_code)


def test_other_sums_stay_apart():
    graph, x, dy = begin((4, 3), (4, 5))
    graph.outputs = [*graph.add(ops.Matmul(True, False), [dy, x]), ops.sum(dy, 1), ops.mean(dy, 0), ops.sum(x, 0)]
    assert text(fuse_bias_gradient(graph, GENERIC_CPU)) == text(graph)


# -- fusion -------------------------------------------------------------------------------------------------------------

def test_pointwise_chains_become_one_node():
    """The exponential of the vector stays where it is computed once, but is read without being expanded."""
    graph, x, b = begin((4, 3), (3,))
    graph.outputs = [ops.relu(ops.add(ops.mul(x, 2.0), ops.expand(ops.exp(b), (4, 3))))]
    check(graph, """
%0: float32[4,3] = Map(exprs=(mul(a, 2),), dtypes=()) <- @x0
%1: float32[3] = Map(exprs=(exp(a),), dtypes=()) <- @x1
%2: float32[4,3] = Expand(shape=(4, 3)) <- %1
%3: float32[4,3] = Map(exprs=(add(a, b),), dtypes=()) <- %0, %2
%4: float32[4,3] = Map(exprs=(relu(a),), dtypes=()) <- %3
return %4
""", """
%0: float32[3] = Map(exprs=(exp(a),), dtypes=()) <- @x1
%1: float32[4,3] = Map(exprs=(relu(add(mul(b, 2), a)),), dtypes=()) <- %0, @x0
return %1
""", fuse_pointwise, eliminate_dead_code)


def test_a_pointwise_value_with_two_readers_is_computed_once():
    graph, x = begin((4, 3))
    y = ops.exp(x)
    graph.outputs = [ops.relu(y), ops.tanh(y)]
    unchanged = """
%0: float32[4,3] = Map(exprs=(exp(a),), dtypes=()) <- @x0
%1: float32[4,3] = Map(exprs=(relu(a),), dtypes=()) <- %0
%2: float32[4,3] = Map(exprs=(tanh(a),), dtypes=()) <- %0
return %1, %2
"""
    check(graph, unchanged, unchanged, fuse_pointwise)


def test_bias_residual_and_activation_move_into_the_product():
    """The sum before the residual is an output too, so the kernel stores both."""
    graph, x, w, b, residual = begin((4, 3), (5, 3), (5,), (4, 5))
    y = ops.linear(x, w, b)
    graph.outputs = [ops.relu(ops.add(y, residual)), y]
    check(graph, f"""
%0: float32[4,5] = {MATMUL} <- @x0, @x1
%1: float32[4,5] = Map(exprs=(add(a, b),), dtypes=()) <- %0, @x2
%2: float32[4,5] = Map(exprs=(add(a, b),), dtypes=()) <- %1, @x3
%3: float32[4,5] = Map(exprs=(relu(a),), dtypes=()) <- %2
return %3, %1
""", f"""
%0: float32[4,5], %1: float32[4,5] = {MATMUL} then {{0: add(a, b) relu(add(add(a, b), c))}} <- @x0, @x1, @x2, @x3
return %1, %0
""", fuse_pointwise, fuse_epilogues)


def test_an_update_moves_into_the_kernel_of_its_gradient():
    graph, x, dy = begin((4, 3), (4, 5))
    w = variable(graph, "w", 5, 3)
    (dw,) = differentiate(graph, [ops.linear(x, w)], [dy], [w])
    graph.updates[w] = ops.sub(w, ops.mul(dw, 0.5))
    check(eliminate_dead_code(graph, GENERIC_CPU), f"""
%0: float32[5,3] = {GRADIENT.format(False)} <- @x1, @x0
%1: float32[5,3] = Map(exprs=(mul(a, 0.5),), dtypes=()) <- %0
%2: float32[5,3] = Map(exprs=(sub(a, b),), dtypes=()) <- @w, %1
update @w <- %2
return 
""".replace("return \n", "return "), f"""
%0: float32[5,3] = {GRADIENT.format(False)} then {{0: sub(b, mul(a, 0.5))}} <- @x1, @x0, @w
update @w <- %0
return 
""".replace("return \n", "return "), fuse_pointwise, fuse_epilogues)


def test_a_tail_that_needs_its_own_producer_twice_makes_no_cycle():
    """y + sum(y) depends on all of y before the first element can be finished."""
    graph, x, w = begin((4, 3), (5, 3))
    y = ops.linear(x, w)
    graph.outputs = [ops.add(y, ops.sum(y))]
    result = fuse_epilogues(fuse_pointwise(graph, GENERIC_CPU), GENERIC_CPU)
    verify(result)
    assert len(result.nodes) == 4 and MATMUL + " <- " in text(result)
    check_same_numbers(graph, result)


def test_the_later_of_two_producers_takes_the_sum():
    graph, x, v, w = begin((4, 3), (5, 3), (5, 3))
    graph.outputs = [ops.add(ops.linear(x, v), ops.linear(x, w))]
    check(graph, f"""
%0: float32[4,5] = {MATMUL} <- @x0, @x1
%1: float32[4,5] = {MATMUL} <- @x0, @x2
%2: float32[4,5] = Map(exprs=(add(a, b),), dtypes=()) <- %0, %1
return %2
""", f"""
%0: float32[4,5] = {MATMUL} <- @x0, @x1
%1: float32[4,5] = {MATMUL} then {{0: add(b, a)}} <- @x0, @x2, %0
return %1
""", fuse_epilogues)


# -- layouts ------------------------------------------------------------------------------------------------------------

def image_network() -> Graph:
    graph, x, w = begin((2, 3, 6, 6), (8, 3, 3, 3))
    y = ops.relu(ops.batch_norm(ops.conv2d(x, w, padding=1), None, None, training=True))
    graph.outputs = [ops.max_pool2d(y, 2), ops.flatten(y, 1)]
    return fuse_epilogues(eliminate_dead_code(graph, GENERIC_CPU), GENERIC_CPU)


LAYERS = f"""
%0: float32[2,8,6,6] NCHW = {CONV} <- @x0, @x1
%1: float32[2,8,6,6] NCHW, %2: float32[8], %3: float32[8] = BatchNorm(eps=1e-05) then {{0: relu(a)}} <- %0, const(8,), const(8,)
%4: float32[2,8,3,3] NCHW = {POOL.format(False)} <- %1
%5: float32[2,288] = Reshape(shape=(2, 288)) <- %1
return %4, %5
"""

IN_NHWC = f"""
%0: float32[2,3,6,6] NHWC = Relayout(layout=NHWC) <- @x0
%1: float32[2,8,6,6] NHWC = {CONV} <- %0, @x1
%2: float32[2,8,6,6] NHWC, %3: float32[8], %4: float32[8] = BatchNorm(eps=1e-05) then {{0: relu(a)}} <- %1, const(8,), const(8,)
%5: float32[2,8,3,3] NHWC = {POOL.format(False)} <- %2
%6: float32[2,8,6,6] NCHW = Relayout(layout=NCHW) <- %2
%7: float32[2,288] = Reshape(shape=(2, 288)) <- %6
%8: float32[2,8,3,3] NCHW = Relayout(layout=NCHW) <- %5    # outputs
return %8, %7
"""


@pytest.mark.parametrize("target", [GENERIC_CPU, GENERIC_GPU], ids=["cpu", "gpu"])
def test_relayouts_stand_at_the_borders(target):
    with config.override(layout="NHWC"):
        check(image_network(), LAYERS, IN_NHWC, assign_layouts, target=target)


@pytest.mark.parametrize("layout", ["auto", "NCHW"])
def test_images_stay_as_they_are_by_default(layout):
    with config.override(layout=layout):
        check(image_network(), LAYERS, LAYERS, assign_layouts)


def test_a_tensor_is_moved_once_for_all_its_readers():
    graph, x, v, w = begin((2, 8, 6, 6), (8, 8, 3, 3), (8, 8, 1, 1))
    graph.outputs = [ops.conv2d(x, v, padding=1), ops.conv2d(x, w)]
    with config.override(layout="NHWC"):
        result = assign_layouts(graph, GENERIC_GPU)
    moved = [node for node in result.nodes if isinstance(node.op, Relayout) and node.inputs[0].name == "x0"]
    assert len(moved) == 1
    check_same_numbers(graph, result)


def test_updates_end_in_the_layout_of_their_variable():
    graph, x = begin((2, 8, 6, 6))
    state = variable(graph, "state", 2, 8, 6, 6)
    w = variable(graph, "w", 8, 8, 3, 3)
    graph.updates[state] = ops.add(ops.conv2d(ops.conv2d(x, w, padding=1), w, padding=1), state)
    with config.override(layout="NHWC"):
        result = run_passes(graph, GENERIC_GPU, TRAINING)
    assert [new.spec.layout for new in result.updates.values()] == [ROW]
    assert any(value.spec.layout == NHWC for node in result.nodes for value in node.outputs)
    assert isinstance(result.updates[next(iter(result.updates))].node.op, Relayout)
    check_same_numbers(graph, result)


def test_an_unknown_layout_is_refused():
    with config.override(layout="CHWN"), pytest.raises(ArgumentError, match="CLNN_LAYOUT"):
        assign_layouts(begin((2, 2))[0], GENERIC_CPU)


# -- lowerings ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("target, kind", [(GENERIC_CPU, "packed"), (GENERIC_GPU, "tiled")], ids=["cpu", "gpu"])
def test_lowerings_are_chosen_with_reasons(target, kind):
    graph, x, w = begin((64, 30), (50, 30))
    graph.outputs = [ops.linear(x, w)]
    result = check(graph, f"%0: float32[64,50] = {MATMUL} <- @x0, @x1\nreturn %0",
                   f"%0: float32[64,50] = {MATMUL} <- @x0, @x1    # by {kind}\nreturn %0", choose_lowerings, target=target)
    (node,) = result.nodes
    assert node.offer.launches and node.offer.launches[0].kernel.template == f"gemm/{kind}"
    assert all(reason for _, reason in node.refusals)
    with config.override(lowering={"Matmul": "simple"}):
        (forced,) = choose_lowerings(graph, target).nodes
    assert forced.lowering == "simple"


# -- all together -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("target", [GENERIC_CPU, GENERIC_GPU], ids=["cpu", "gpu"])
@pytest.mark.parametrize("seed", range(25))
def test_random_training_graphs_keep_their_meaning(seed, target):
    graph, arrays = random_training_graph(seed)
    before = str(graph)
    for layout in ("auto", "NHWC"):
        with config.override(layout=layout):
            result = run_passes(graph, target, TRAINING)
        check_same_numbers(graph, result, arrays)
        assert all(node.offer is not None for node in result.nodes)
    assert str(graph) == before


@pytest.mark.parametrize("seed", range(8))
def test_passes_change_nothing_the_second_time(seed):
    """What is left has nothing more to fuse, so a second round ends in the same launches."""
    graph, _ = random_training_graph(seed)
    once = run_passes(graph, GENERIC_CPU, TRAINING)
    twice = run_passes(once, GENERIC_CPU, TRAINING)
    assert str(twice) == str(once)


def test_inference_passes_keep_the_numbers():
    for seed in range(5):
        graph, arrays = random_training_graph(seed)
        graph.updates = {}
        check_same_numbers(graph, run_passes(graph, GENERIC_CPU, INFERENCE), arrays)
