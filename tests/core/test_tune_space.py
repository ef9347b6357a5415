"""The candidates of a problem, and the problems themselves."""

from __future__ import annotations

import json
from random import Random

import pytest
from tune_landscapes import matmul_problem, matmul_space

from clnn.codegen.expr import arg, call, const
from clnn.codegen.lowering import Context
from clnn.codegen.template import declaration, template_names
from clnn.errors import LoweringError
from clnn.ir import NHWC, TensorSpec
from clnn.ops.conv import Conv2d
from clnn.ops.fused import Fused
from clnn.ops.matmul import Matmul
from clnn.ops.pointwise import Map
from clnn.target import GENERIC_CPU, GENERIC_GPU
from clnn.tune.problem import Problem, distance
from clnn.tune.space import MOST_SEEDS, Candidate, Setting, Space


def conv_problem(batch=4, channels=16, filters=32, size=14, window=3, layout=None, **options) -> Problem:
    inputs = (TensorSpec((batch, channels, size, size)), TensorSpec((filters, channels, window, window)))
    op = Conv2d(**options)
    outputs = op.infer(*inputs)
    if layout is not None:
        inputs, outputs = (inputs[0].with_layout(layout), inputs[1]), (outputs[0].with_layout(layout),)
    return Problem(op, inputs, outputs)


def relu(problem: Problem, function: str = "relu") -> Problem:
    op = Fused(problem.op, ((0, Map((call(function, arg(0)),))),), (0,), len(problem.inputs))
    return Problem(op, problem.inputs, problem.outputs)


def test_configurations_can_be_written_as_json():
    for space in (matmul_space(256, 256, 1024), Space(conv_problem(), GENERIC_GPU), Space(conv_problem(), GENERIC_CPU)):
        for candidate in space.seeds():
            config = json.loads(json.dumps(candidate.config))
            assert space.candidate(candidate.lowering, config) == candidate
            assert Candidate.of(candidate.lowering, config) == candidate


def test_a_candidate_is_complete_and_gives_its_own_launches():
    space = matmul_space(64, 64, 4096)
    found = space.candidate("tiled", {"splits": 4, "gemm/tiled": {"BM": 32, "TM": 4}})
    assert found.config["splits"] == 4
    assert found.config["gemm/tiled"]["BM"] == 32 and found.config["gemm/tiled"]["BN"] > 0
    assert {launch.kernel.template for launch in space.offer(found).launches} == {"gemm/tiled", "gemm/join"}
    assert dict(space.offer(found).launches[0].kernel.problem)["splits"] == 4


def test_flat_configurations_reach_every_template():
    problem = matmul_problem(64, 64, 4096)
    lowering = next(lowering for lowering in problem.op.lowerings if lowering.name == "tiled")
    offer = lowering.offer(problem.op, problem.inputs, problem.outputs, GENERIC_GPU, config={"BM": 16, "GROUP": 64, "splits": 2})
    tile, join = (dict(launch.kernel.config) for launch in offer.launches)
    assert (tile["BM"], join["GROUP"]) == (16, 64)


def test_refusals_are_counted_by_reason():
    space = matmul_space(512, 512, 512)
    assert space.refusals["packed: is made for CPUs"] == 1
    for block in (4, 8):
        tile = {"BM": 128, "BN": 128, "BK": 32, "TM": 8, "TN": block, "STAGES": 2}
        assert space.candidate("tiled", {"gemm/tiled": tile}) is None
    assert space.refusals["tiled: needs … bytes of local memory, the device has …"] == 2
    assert space.candidate("tiled", {"splits": 3}) is None
    assert space.candidate("winograd", {}) is None
    assert any("choice splits cannot be" in reason for reason in space.refusals)


def test_choices():
    context = Context((), (), GENERIC_GPU, {"splits": 4})
    assert context.choice("splits", 1, (1, 2, 4)) == 4
    assert context.choice("order", "a", ("a", "b")) == "a"
    assert [choice.value for choice in context.offer().choices] == [4, "a"]
    with pytest.raises(LoweringError, match="choice splits cannot be 4 here, only 1, 2"):
        context.choice("splits", 1, (1, 2))
    assert Context((), (), GENERIC_GPU).choice("splits", 3, (1, 2)) == 3


def test_choices_survive_fusion():
    problem = relu(matmul_problem(64, 64, 4096))
    space = Space(problem, GENERIC_GPU)
    assert "splits" in {d.name for d in space.dimensions(space.default)}
    assert space.candidate("tiled", {"splits": 8}).config["splits"] == 8


def test_seeds_begin_with_the_default_of_every_lowering():
    space = Space(conv_problem(), GENERIC_GPU)
    seeds = space.seeds()
    assert seeds[0] == space.default
    assert {seed.lowering for seed in seeds} == {"implicit_gemm", "im2col", "direct"}
    assert len(seeds) == len(set(seeds)) <= MOST_SEEDS


def test_curated_seeds_are_few_and_of_declared_tunables():
    for name in template_names():
        kernel = declaration(name)
        assert len(kernel.seeds) <= MOST_SEEDS
        for seed in kernel.seeds:
            assert set(seed) <= {tunable.name for tunable in kernel.tunables}, name


def test_steps_go_to_the_next_value_that_is_allowed():
    space = matmul_space(512, 512, 512)
    start = space.candidate("tiled", {"gemm/tiled": {"BM": 64, "BN": 64, "BK": 16, "TM": 4, "TN": 4, "STAGES": 1}, "splits": 1})
    dimension = next(d for d in space.dimensions(start) if d.name == "BK")
    assert [c.config["gemm/tiled"]["BK"] for c in space.steps(start, dimension)] == [32, 8]
    for dimension in space.dimensions(start):
        for neighbour in space.steps(start, dimension):
            assert len(set(neighbour.settings) - set(start.settings)) >= 1


def test_chance_stays_inside_the_space():
    space, rng = Space(conv_problem(), GENERIC_GPU), Random(0)
    for _ in range(30):
        sampled = space.sample(rng)
        assert space.offer(sampled)
        mutated = space.mutated(sampled, rng)
        assert mutated is None or mutated != sampled
        crossed = space.crossed(sampled, mutated or sampled, rng)
        assert crossed is None or crossed.lowering == sampled.lowering
    assert space.crossed(Candidate("direct"), Candidate("im2col"), rng) is None


def test_printing():
    candidate = Candidate("tiled", (Setting("", "splits", 2), Setting("gemm/tiled", "BM", 64)))
    assert str(candidate) == "tiled splits=2 gemm/tiled [BM=64]"
    assert str(matmul_problem(3, 4, 5)) == "Matmul 3x5, 5x4"


# -- problems -----------------------------------------------------------------------------------------------------------

def test_equal_problems_have_equal_keys():
    assert conv_problem().key == conv_problem().key
    for other in (conv_problem(batch=8), conv_problem(padding=(1, 1, 1, 1)), conv_problem(layout=NHWC), matmul_problem(1, 2, 3)):
        assert other.key != conv_problem().key


def test_the_expression_of_a_tail_does_not_count_but_its_tensors_do():
    plain = conv_problem()
    assert relu(plain).key == relu(plain, "tanh").key != plain.key


def test_constants_of_expressions_do_not_count():
    specs = (TensorSpec((8, 8)),)
    one, two, three = (Problem(Map((e,)), specs, specs) for e in (arg(0) * const(2.0), arg(0) * const(3.0), call("exp", arg(0))))
    assert one.key == two.key != three.key


def test_families_differ_in_sizes_only():
    assert conv_problem(batch=8).family == conv_problem(size=28, filters=64).family
    for other in (conv_problem(window=1), conv_problem(stride=(2, 2)), conv_problem(layout=NHWC), relu(conv_problem())):
        assert other.family != conv_problem().family


def test_distance_is_in_octaves():
    assert distance([64, 64], [64, 64]) == 0
    assert distance([64, 64], [128, 64]) == 1
    assert distance([1, 2], [1, 2, 3]) == float("inf")


def test_nothing_applies():
    class Nothing(Matmul):
        @property
        def lowerings(self):
            return ()

    problem = matmul_problem(2, 2, 2)
    with pytest.raises(LoweringError, match="no lowering applies"):
        Space(Problem(Nothing(), problem.inputs, problem.outputs), GENERIC_GPU)
