"""Chooses how images lie in memory, and inserts the relayouts that this costs."""

from __future__ import annotations

from ..config import config
from ..errors import ArgumentError, LoweringError
from ..ir import NHWC, ROW, Graph, Layout, Node, Value
from ..ops.relayout import Relayout
from ..ops.shape import Reshape
from ..target import Target

PREFERENCES = {"auto": ROW, "NCHW": ROW, "NHWC": NHWC}


def assign_layouts(graph: Graph, target: Target) -> Graph:
    """Walk the nodes in order; each takes the cheapest layouts that one of its lowerings offers.

    The cost is the bytes of the relayouts that the choice needs now, with a bonus for results in the preferred layout
    (``CLNN_LAYOUT``). Inputs, variables and outputs of the graph stay row-major.
    """
    if config.layout not in PREFERENCES:
        raise ArgumentError("unknown layout", where="CLNN_LAYOUT", got=config.layout, expected=" or ".join(PREFERENCES))
    preferred = PREFERENCES[config.layout]
    graph = graph.clone()
    copies: dict[tuple[Value, Layout], Value] = {}
    nodes, graph.nodes = graph.nodes, []
    same: dict[Value, Value] = {}
    for node in nodes:
        node.inputs = tuple(same.get(value, value) for value in node.inputs)
        given, made = _cheapest(node, target, preferred, copies)
        inputs = [_in_layout(graph, value, layout, copies, node.path) for value, layout in zip(node.inputs, given, strict=True)]
        specs = [value.spec.with_layout(layout) for value, layout in zip(node.outputs, made, strict=True)]
        twin = graph.append(node.op, inputs, specs, node.path)
        same.update(zip(node.outputs, twin.outputs, strict=True))
    graph.replace(same)
    graph.outputs = [_in_layout(graph, value, ROW, copies, "outputs") for value in graph.outputs]
    graph.updates = {old: _in_layout(graph, new, old.spec.layout, copies, old.name) for old, new in graph.updates.items()}
    return graph


def _cheapest(node: Node, target: Target, preferred: Layout, copies: dict) -> tuple[tuple[Layout, ...], tuple[Layout, ...]]:
    """(input layouts, output layouts) with the least cost among those that some lowering really offers."""
    if isinstance(node.op, Reshape):
        return (ROW,), (ROW,)
    best, reasons = None, []
    inputs, outputs = [v.spec for v in node.inputs], [v.spec for v in node.outputs]
    for rank, lowering in enumerate(node.op.lowerings):
        for given, made in lowering.layouts(node.op, tuple(inputs), tuple(outputs)):
            if not all(layout.fits(s.shape) for layout, s in zip((*given, *made), (*inputs, *outputs), strict=True)):
                continue
            moved = sum(s.nbytes for v, s, layout in zip(node.inputs, inputs, given, strict=True)
                        if s.layout != layout and (v, layout) not in copies)
            liked = sum(s.nbytes for s, layout in zip(outputs, made, strict=True) if s.rank == 4 and layout != preferred)
            cost = (2 * moved + 3 * liked, rank)
            if best is not None and cost >= best[0]:
                continue
            try:
                lowering.offer(node.op, tuple(s.with_layout(layout) for s, layout in zip(inputs, given, strict=True)),
                               tuple(s.with_layout(layout) for s, layout in zip(outputs, made, strict=True)), target)
            except LoweringError as error:
                reasons.append(f"{lowering.name}: {error.what}")
                continue
            best = (cost, given, made)
    if best is None:
        raise LoweringError("no lowering applies in any layout", where=f"{node.path} {node.op.name}", got="; ".join(reasons))
    return tuple(best[1]), tuple(best[2])


def _in_layout(graph: Graph, value: Value, layout: Layout, copies: dict[tuple[Value, Layout], Value], path: str) -> Value:
    """``value`` in ``layout``, by a relayout node if need be; one per value and layout."""
    if value.spec.layout == layout:
        return value
    if (value, layout) not in copies:
        copies[value, layout] = graph.append(Relayout(layout), [value], [value.spec.with_layout(layout)], path).outputs[0]
        copies[copies[value, layout], value.spec.layout] = value
    return copies[value, layout]
