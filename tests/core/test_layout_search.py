"""Choosing layouts for all nodes together: against every possible assignment, and in graphs with made-up times."""

from __future__ import annotations

import itertools
import json
from random import Random

import pytest

from clnn import ops
from clnn.config import config
from clnn.ir import NHWC, ROW, Graph, TensorSpec
from clnn.ops.conv import Conv2d
from clnn.ops.relayout import Relayout
from clnn.passes.assign_layouts import assign_layouts
from clnn.passes.choose_lowerings import choose_lowerings
from clnn.passes.layout_search import Option, Tensor, search, total_of
from clnn.target import GENERIC_CPU, GENERIC_GPU

LAYOUTS = "ab"


def random_problem(seed: int, nodes: int = 8):
    """A chain with skips: every node reads the one before and perhaps an earlier one, all in one layout."""
    rng = Random(seed)
    reads = [[number - 1, *([rng.randrange(number)] if number > 1 and rng.random() < 0.5 else [])] for number in range(nodes)]
    options = [[Option((layout,) * len(reads[number]), (layout,), rng.uniform(1, 10)) for layout in LAYOUTS]
               for number in range(nodes)]
    tensors = [Tensor(rng.uniform(0.5, 4), "a")]
    tensors += [Tensor(rng.uniform(0.5, 4), None, (number, 0)) for number in range(nodes)]
    for number, sources in enumerate(reads):
        for slot, source in enumerate(sources):
            tensors[source + 1].readers.append((number, slot))
    tensors[-1].wanted = ("a",)
    return options, tensors


@pytest.mark.parametrize("seed", range(40))
def test_finds_nearly_the_best_of_all_assignments(seed):
    options, tensors = random_problem(seed)
    starts = [[which] * len(options) for which in range(len(LAYOUTS))]
    chosen, total = search(options, tensors, starts)
    best = min(total_of(options, tensors, every) for every in itertools.product(range(len(LAYOUTS)), repeat=len(options)))
    assert total == pytest.approx(total_of(options, tensors, chosen))
    assert best <= total + 1e-9 and total <= 1.03 * best
    assert search(options, tensors, starts) == (chosen, total)


def test_a_relayout_is_paid_once_for_all_readers():
    options = [[Option((), ("a",), 0.0)], [Option(("b",), (), 0.0)], [Option(("b",), (), 0.0)]]
    tensors = [Tensor(5.0, None, (0, 0), [(1, 0), (2, 0)])]
    assert search(options, tensors, [[0, 0, 0]]) == ([0, 0, 0], 5.0)


class Made:
    """Made-up times: convolutions of images of this size or larger gain in NHWC; the rest is alike."""

    def __init__(self, gain: float, move: float = 1e-6, known: dict | None = None):
        self.gain, self.move, self.known = gain, move, known or {}
        self.kept: dict = {}

    def estimate(self, op, inputs, outputs, offer):
        convolves = isinstance(getattr(op, "base", op), Conv2d)
        return 1e-3 / self.gain if convolves and inputs[0].layout == NHWC else 1e-3

    def measured(self, op, inputs, outputs):
        return self.known.get(inputs[0].layout) if isinstance(op, Conv2d) else None

    def relayout(self, spec):
        return self.move * spec.nbytes / 1024

    def recall(self, question):
        return json.loads(json.dumps(self.kept.get(question)))

    def keep(self, question, answer):
        self.kept[question] = answer


def chain() -> Graph:
    graph = Graph()
    x = graph.input(TensorSpec((2, 16, 12, 12)), "x")
    w = [graph.input(TensorSpec((16, 16, 3, 3)), f"w{i}") for i in range(3)]
    for each in w:
        x = ops.sigmoid(ops.conv2d(x, each, padding=1))
    graph.outputs = [x]
    return graph


def layouts(graph: Graph) -> set:
    return {node.inputs[0].spec.layout for node in graph.nodes if isinstance(node.op, Conv2d)}


def test_layouts_follow_the_times():
    result = assign_layouts(chain(), GENERIC_GPU, Made(1.5))
    assert layouts(result) == {NHWC}
    assert sum(isinstance(node.op, Relayout) for node in result.nodes) == 2         # at the borders only
    assert "NHWC (5 nodes) 5.04 ms" in result.notes[0] and "against all NCHW " in result.notes[0]
    assert layouts(assign_layouts(chain(), GENERIC_GPU, Made(0.8))) == {ROW}
    assert layouts(assign_layouts(chain(), GENERIC_GPU, Made(1.01))) == {ROW}       # not worth while
    assert layouts(assign_layouts(chain(), GENERIC_GPU, Made(1.5, move=1.0))) == {ROW}      # relayouts cost more


def test_a_measured_layout_is_not_beaten_by_optimism():
    """NCHW took twice its estimate, so NHWC will take twice its own."""
    assert layouts(assign_layouts(chain(), GENERIC_GPU, Made(1.0, known={ROW: 2e-3}))) == {ROW}
    assert layouts(assign_layouts(chain(), GENERIC_GPU, Made(1.0, known={ROW: 2e-3, NHWC: 1.2e-3}))) == {NHWC}


def test_a_choice_is_kept_for_the_same_graph():
    costs = Made(1.5)
    first = assign_layouts(chain(), GENERIC_GPU, costs)
    assert len(costs.kept) == 1
    costs.gain = 0.8        # for which there is another choice; costs that keep answers know that they are for the same times
    again = assign_layouts(chain(), GENERIC_GPU, costs)
    assert str(again) == str(first) and again.notes == first.notes and first.notes
    assert layouts(assign_layouts(chain(), GENERIC_GPU, Made(0.8))) == {ROW}
    larger = chain()
    larger.outputs = [*larger.outputs, larger.nodes[0].outputs[0]]
    assign_layouts(larger, GENERIC_GPU, costs)
    assert len(costs.kept) == 2, "another graph is another question"
    with config.override(layout="NHWC"):
        assign_layouts(chain(), GENERIC_GPU, costs)
    assert len(costs.kept) == 2, "what is asked for is not kept"


@pytest.mark.parametrize("damage", [lambda answer: None, lambda answer: [], lambda answer: "text", lambda answer: {"notes": []},
                                    lambda answer: answer | {"layouts": answer["layouts"][1:]},
                                    lambda answer: answer | {"layouts": [[its[0][1:], its[1]] for its in answer["layouts"]]},
                                    lambda answer: answer | {"layouts": [[[["NCHW7c", 7]] * len(side) for side in its]
                                                                         for its in answer["layouts"]]},
                                    lambda answer: answer | {"layouts": [[[[1, 2, 3]] * len(side) for side in its]
                                                                         for its in answer["layouts"]]}])
def test_what_is_no_answer_is_not_taken(damage):
    costs = Made(1.5)
    first = assign_layouts(chain(), GENERIC_GPU, costs)
    (question, answer), = costs.kept.items()
    costs.kept[question] = damage(json.loads(json.dumps(answer)))
    assert str(assign_layouts(chain(), GENERIC_GPU, costs)) == str(first) and costs.kept[question] == answer



def test_a_layout_that_is_asked_for_is_taken_whatever_it_costs():
    with config.override(layout="NHWC"):
        assert layouts(assign_layouts(chain(), GENERIC_GPU, Made(0.5))) == {NHWC}
    with config.override(layout="NCHW"):
        assert layouts(assign_layouts(chain(), GENERIC_GPU, Made(2.0))) == {ROW}


def test_a_lowering_clearly_ahead_by_estimate_is_taken_and_the_others_told():
    class Costs(Made):
        def estimate(self, op, inputs, outputs, offer):
            return 1e-3 if offer.launches[-1].kernel.template == "conv/direct" else 1e-2

    node = next(node for node in choose_lowerings(chain(), GENERIC_CPU, Costs(1.0)).nodes if isinstance(node.op, Conv2d))
    assert node.lowering == "direct"
    assert any("slower by estimate: 10 ms, direct 1 ms" in reason for _, reason in node.refusals)
    with config.override(lowering={"Conv2d": "im2col"}):
        forced = next(n for n in choose_lowerings(chain(), GENERIC_CPU, Costs(1.0)).nodes if isinstance(n.op, Conv2d))
    assert forced.lowering == "im2col"
