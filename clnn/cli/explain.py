"""``clnn explain``: how a model becomes launches, and what they cost."""

from __future__ import annotations

import argparse

from . import console
from .directions import FORWARD, direction, forward_nodes
from .model import Subject, add_subject, compile_subject, describe, open_subject


def add(commands) -> argparse.ArgumentParser:
    """Declare the command."""
    parser = commands.add_parser("explain", help="graph, chosen and refused lowerings, launches, memory and flops of a model",
                                 description="Compile a model and show the graph after all passes, the lowering of each operator "
                                             "with the reasons against those before it, the launches, the cost by layer, and "
                                             "the memory.")
    add_subject(parser)
    return parser


def run(given: argparse.Namespace) -> int:
    """Explain one model."""
    subject = open_subject(given)
    step = compile_subject(subject, given)
    console.fields(describe(subject, given, step))
    console.heading("graph")
    console.output().print(str(step.graph))
    _lowerings(step.graph, step.session)
    _launches(step.plan)
    _cost(step, subject, given.inference)
    _memory(step.plan)
    return 0


def _lowerings(graph, session) -> None:
    """Chosen and refused lowerings, with what the tuner knows and the estimate of the cost model."""
    from ..tune.estimate import estimate
    console.heading("lowerings")
    for note in graph.notes:
        console.output().print(f"layouts: {note}")
    rows = []
    for node in graph.nodes:
        if node.offer is not None and node.offer.launches:
            refused = "; ".join(f"not {name}: {reason}" for name, reason in node.refusals)
            guess = f"{1e3 * estimate(node, session):.3g}"
            rows.append((node.path or "-", node.op.name, node.lowering, guess, node.note or "-", refused))
    console.table(("layer", "operator", "lowering", "estimate ms", "tuned", "refused"), rows, right=("estimate ms",))


def _launches(plan) -> None:
    console.heading("launches")
    rows = [(number, launch.node.path or "-", launch.node.op.name, launch.kernel.label, _extents(launch.kernel.global_size),
             _extents(launch.kernel.local_size)) for number, launch in enumerate(plan.launches)]
    console.table(("", "layer", "operator", "kernel", "global", "local"), rows)


def _extents(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _cost(step, subject: Subject, inference: bool) -> None:
    """Flops of the definitions by layer; "-" collects what belongs to none, such as the loss."""
    forward = forward_nodes(step.graph, subject.buffers)
    order = ["-", *subject.layers()]
    layers: dict[str, list] = {}
    for launch in step.plan.launches:
        entry = layers.setdefault(_owner(launch.node.path, order), [0, 0, 0, 0])
        entry[0] += 1
        entry[1 if direction(launch.node, forward, inference) == FORWARD else 2] += launch.flops
        entry[3] += launch.bytes
    total = [sum(column) for column in zip(*layers.values(), strict=True)]
    everything = max(total[1] + total[2], 1)

    def row(name: str, entry: list) -> list:
        launches, ahead, back, moved = entry
        backward = [] if inference else [f"{back / 1e6:,.2f}"]
        share = 100 * (ahead + back) / everything
        return [name, launches, f"{ahead / 1e6:,.2f}", *backward, f"{share:.1f}", f"{moved / 1e6:,.2f}"]

    columns = ("layer", "launches", "forward Mflop", *([] if inference else ["backward Mflop"]), "%", "MB touched")
    console.heading("cost by layer")
    ordered = sorted(layers.items(), key=lambda item: order.index(item[0]) or len(order))
    console.table(columns, [*(row(*item) for item in ordered), row("all", total)], right=columns[1:])


def _owner(path: str, layers: list[str]) -> str:
    """The innermost layer that a path lies in: updates carry the parameter's name below the layer's."""
    while path and path not in layers:
        path = path.rpartition(".")[0]
    return path or "-"


def _memory(plan) -> None:
    console.heading("memory")
    share = 100 * plan.arena_bytes / plan.temporary_bytes if plan.temporary_bytes else 100
    inputs, constants = sum(v.spec.nbytes for v in plan.inputs), sum(c.nbytes for c in plan.constants)
    arena, everything = console.size(plan.arena_bytes), console.size(plan.temporary_bytes)
    console.fields([
        ("peak", console.size(plan.peak_bytes)),
        ("temporaries", f"{arena}, {share:.0f} % of the {everything} they sum up to"),
        ("variables", console.size(plan.variable_bytes)),
        ("inputs", console.size(inputs)),
        ("constants", console.size(constants))])
