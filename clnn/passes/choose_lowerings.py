"""Gives every node its launches: the first lowering that applies, with the reasons why earlier ones did not."""

from __future__ import annotations

from ..codegen.lowering import Offer
from ..config import config
from ..errors import LoweringError
from ..ir import Graph, Node
from ..target import Target


def choose_lowerings(graph: Graph, target: Target) -> Graph:
    """Set ``lowering``, ``offer`` and ``refusals`` of every node.

    Raises:
        LoweringError: if no lowering applies to a node, with all the reasons.
    """
    graph = graph.clone()
    for node in graph.nodes:
        offer_for(node, target)
    return graph


def offer_for(node: Node, target: Target, banned: frozenset[str] = frozenset()) -> Offer:
    """Choose a lowering for one node; ``banned`` names those that failed to build."""
    inputs, outputs = tuple(v.spec for v in node.inputs), tuple(v.spec for v in node.outputs)
    wanted = config.lowering.get(node.op.name)
    candidates = list(node.op.lowerings)
    if wanted is not None:
        candidates.sort(key=lambda lowering: lowering.name != wanted)
    node.refusals, node.note = [], ""
    for lowering in candidates:
        if lowering.name in banned:
            node.refusals.append((lowering.name, "did not build on this device"))
            continue
        try:
            node.offer = lowering.offer(node.op, inputs, outputs, target, forced=lowering.name == wanted)
        except LoweringError as error:
            node.refusals.append((lowering.name, error.what))
            continue
        node.lowering = lowering.name
        return node.offer
    raise LoweringError("no lowering applies", where=f"{node.path} {node.op.name}",
                        got="; ".join(f"{name}: {reason}" for name, reason in node.refusals),
                        expected=f"one of {[lowering.name for lowering in candidates]} on {target.name}")


def describe_lowerings(graph: Graph) -> str:
    """The lowering of each node that launches something, on what measurement, and why others were refused."""
    lines = ["lowerings"]
    for node in graph.nodes:
        if node.offer is not None and node.offer.launches:
            lines.append(f"  {node.path or '-'} {node.op.name}: {node.lowering}")
            lines += [f"      {node.note}"] if node.note else []
            lines += [f"      not {name}: {reason}" for name, reason in node.refusals]
    return "\n".join(lines)
