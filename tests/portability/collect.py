"""Which kernels a machine would run for all benchmarked layers, matrix products, operators and networks, without the machine."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from bench.cases import Case
from bench.ours import PROGRAMS, make_model
from bench.suites import gemm, layers, memory, models
from clnn import ops, optim
from clnn.codegen.kernel import KernelSpec
from clnn.codegen.lowering import Offer
from clnn.codegen.template import declaration, render
from clnn.compiler import append_training, without_collections
from clnn.config import config
from clnn.errors import LoweringError
from clnn.ir import Graph, Node, TensorSpec, Variable
from clnn.ops.step import StepState
from clnn.passes import INFERENCE, TRAINING, Pass, run_passes
from clnn.plan import make_plan
from clnn.target import Target
from clnn.tune.problem import problem_of
from clnn.tune.space import Space

BATCH = 64
LAYOUTS = ("NCHW", "NHWC")
#: how a kernel came to be compiled, the strictest first:
#: chosen where nothing is measured; offered by another lowering or in another layout, which measurements may prefer;
#: a sample of an operator, for templates that no benchmark needs; forced although the lowering says that it is for other devices;
#: a configuration from which tuning starts
WAYS = ("chosen", "offered", "sample", "forced", "seed")
#: the ways to which no measurement and no user is needed: their kernels must not spill
DEFAULTS = ("chosen", "offered", "sample")


@dataclass(frozen=True)
class Kernel:
    """A kernel to compile: ``origin`` is the first case that needs it."""

    spec: KernelSpec
    name: str
    text: str
    origin: str
    way: str

    @property
    def template(self) -> str:
        return self.spec.template

    @property
    def local_bytes(self) -> int:
        """What the template declares."""
        return declaration(self.template).local_bytes(self.spec.p, self.spec.t)

    @functools.cached_property
    def shape_free(self) -> tuple:
        """Template, tunables, and the text without the numbers of the problem: kernels alike in this differ in constants only."""
        return self.template, self.spec.config, re.sub(r"\b\d+\b", "#", self.text.replace(self.name, ""))


@without_collections()
def collect(target: Target, offered: bool = True, seeds: bool = False) -> dict[str, Kernel]:
    """The kernels for ``target`` by name, each under the strictest of the ways in which it is met; equal texts are one kernel.

    Those that are chosen, and samples of the templates that are then unused; on request what else is offered, and what is tuned.
    """
    found: dict[str, Kernel] = {}

    def add(way: str, origin: str, specs: Iterable[KernelSpec]) -> None:
        for spec in specs:
            name, text = render(spec)
            if name not in found or WAYS.index(way) < WAYS.index(found[name].way):
                found[name] = Kernel(spec, name, text, origin, way)

    for origin, graph, passes in programs():
        for layout in LAYOUTS if offered else LAYOUTS[:1]:
            with config.override(layout=layout, tune="off", lowering={}):
                lowered = run_passes(graph, target, passes)
            planned = make_plan(lowered, target).launches
            add("chosen" if layout == "NCHW" else "offered", origin, (launch.kernel for launch in planned))
            for node in _distinct(lowered) if offered else ():
                add("offered", origin, _kernels(_offers(node, target)))
                if seeds and passes is INFERENCE:
                    add("seed", origin, _kernels(_seeded(node, target)))
    used = {kernel.template for kernel in found.values()}
    for operator in ops.OPERATORS:
        for number, sample in enumerate(operator.samples()):
            outputs = sample.op.infer(*sample.inputs)
            for lowering in sample.op.lowerings:
                for forced in (False, True) if offered else (False,):
                    try:
                        offer = lowering.offer(sample.op, sample.inputs, outputs, target, forced=forced)
                    except LoweringError:
                        continue
                    add("forced" if forced else "sample", f"{operator.__name__} sample {number}",
                        (launch.kernel for launch in offer.launches if launch.kernel.template not in used))
    return found


def representatives(kernels: Iterable[Kernel]) -> dict[str, Kernel]:
    """One of all kernels that differ in constants only: the one with the longest text, which is that of the largest problem."""
    best: dict[tuple, Kernel] = {}
    for kernel in sorted(kernels, key=lambda kernel: (len(kernel.text), kernel.name)):
        best[kernel.shape_free] = kernel
    return {kernel.name: kernel for kernel in best.values()}


# -- what is run ------------------------------------------------------------------------------------------------------------

@functools.cache
def programs() -> tuple[tuple[str, Graph, tuple[Pass, ...]], ...]:
    """(name, graph, passes) of all benchmarks; the same graphs for all machines."""
    single = [*layers.cases(BATCH, False), *gemm.cases("gpu", False), *memory.cases(*memory.sizes(False, BATCH), 1)]
    return tuple([(case.name, _graph(case), INFERENCE) for case in single] + list(_networks()))


def _graph(case: Case) -> Graph:
    graph, state = Graph(), StepState()
    graph.random = (state.seed, state.step)
    shapes = dict(case.inputs)
    if case.kind == "batch_norm_backward":      # reads the statistics in place of the bias
        vector = shapes.pop("bias")
        shapes = {"dy": shapes["dy"], "x": shapes["x"], "weight": vector, "mean": vector, "var": vector}
    values = [graph.variable(Variable(_zeros(shape), name)) if name == "w" else graph.input(TensorSpec(shape), name)
              for name, shape in shapes.items()]
    result = PROGRAMS[case.kind](case.params, *values)
    graph.outputs = list(result) if isinstance(result, tuple) else [result]
    return graph


def _networks() -> Iterator[tuple[str, Graph, tuple[Pass, ...]]]:
    """Training steps and inference of the benchmarked networks."""
    for name, (model_name, settings, sample, _, batch, _) in models.NETWORKS.items():
        model = make_model(model_name, settings)
        model.name_variables()
        for training in (True, False):
            (model.train if training else model.eval)()
            graph, state = Graph(), StepState()
            graph.random = (state.seed, state.step)
            output = model(graph.input(TensorSpec((batch, *sample)), "x"))
            graph.outputs = [output]
            if training:
                loss = ops.cross_entropy(output, graph.input(TensorSpec((batch,), "int32"), "target"))
                parameters = [value.source for value in graph.variables]
                rate, step = graph.variable(state.rate), graph.variable(state.step)
                append_training(graph, loss, parameters, optim.SGD(lr=0.1, momentum=0.9), rate, step)
                graph.outputs = [loss, output]
            yield f"{name} {'training' if training else 'inference'}", graph, TRAINING if training else INFERENCE


def _zeros(shape) -> np.ndarray:
    return np.zeros(shape, np.float32)


# -- how it could be run ------------------------------------------------------------------------------------------------------

def _distinct(graph: Graph) -> list[Node]:
    """One node of each operator and specs."""
    return list({(node.op, *_specs(node)): node for node in graph.nodes}.values())


def _specs(node: Node) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    return tuple(v.spec for v in node.inputs), tuple(v.spec for v in node.outputs)


def _offers(node: Node, target: Target) -> Iterator[Offer]:
    for lowering in node.op.lowerings:
        try:
            yield lowering.offer(node.op, *_specs(node), target)
        except LoweringError:
            continue


def _seeded(node: Node, target: Target) -> Iterator[Offer]:
    if isinstance(node.offer, Offer) and node.offer.launches:
        space = Space(problem_of(node), target)
        yield from map(space.offer, space.seeds())


def _kernels(offers: Iterable[Offer]) -> Iterator[KernelSpec]:
    return (launch.kernel for offer in offers for launch in offer.launches)
