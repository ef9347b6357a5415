"""Gives every node its launches, with the reasons why other lowerings are not taken.

An operator lists its lowerings best first, so the first that applies is taken, unless the cost model sees another one clearly
ahead: the order is what holds for most shapes, the model knows this one.
"""

from __future__ import annotations

from ..codegen.lowering import Offer
from ..config import config
from ..errors import LoweringError
from ..ir import Graph, Node
from ..target import Target
from .costs import Costs
from .offers import Offers

#: how many times faster than the first lowering another must be by estimate to be taken instead; estimates are no better
CLEARLY = 1.3


def choose_lowerings(graph: Graph, target: Target, costs: Costs | None = None, offers: Offers | None = None) -> Graph:
    """Set ``lowering``, ``offer`` and ``refusals`` of every node.

    Raises:
        LoweringError: if no lowering applies to a node, with all the reasons.
    """
    graph = graph.clone()
    known: dict[tuple, Node] = {}
    offers = offers or Offers(target)
    for node in graph.nodes:
        key = (node.op, tuple(v.spec for v in node.inputs), tuple(v.spec for v in node.outputs))
        if key in known:
            twin = known[key]
            node.lowering, node.offer, node.refusals, node.note = twin.lowering, twin.offer, list(twin.refusals), twin.note
        else:
            offer_for(node, target, costs=costs, known=offers)
            known[key] = node
    return graph


def offer_for(node: Node, target: Target, banned: frozenset[str] = frozenset(), costs: Costs | None = None,
              known: Offers | None = None) -> Offer:
    """Choose a lowering for one node; ``banned`` names those that failed to build."""
    inputs, outputs = tuple(v.spec for v in node.inputs), tuple(v.spec for v in node.outputs)
    wanted = config.lowering.get(node.op.name)
    candidates = list(node.op.lowerings)
    if wanted is not None:
        candidates.sort(key=lambda lowering: lowering.name != wanted)
    node.refusals, node.note = [], ""
    known = known or Offers(target)
    offers: dict[str, Offer] = {}
    for lowering in candidates:
        if lowering.name in banned:
            node.refusals.append((lowering.name, "did not build on this device"))
            continue
        try:
            offers[lowering.name] = known.of(lowering, node.op, inputs, outputs, lowering.name == wanted)
        except LoweringError as error:
            node.refusals.append((lowering.name, error.what))
            continue
        if costs is None or lowering.name == wanted:
            break
    if not offers:
        raise LoweringError("no lowering applies", where=f"{node.path} {node.op.name}",
                            got="; ".join(f"{name}: {reason}" for name, reason in node.refusals),
                            expected=f"one of {[lowering.name for lowering in candidates]} on {target.name}")
    first = chosen = next(iter(offers))
    if costs is not None and first != wanted:
        seconds = {name: costs.estimate(node.op, inputs, outputs, offer) for name, offer in offers.items()}
        if (chosen := preferred(seconds)) != first:
            node.refusals.append((first, f"slower by estimate: {1e3 * seconds[first]:.3g} ms, "
                                         f"{chosen} {1e3 * seconds[chosen]:.3g} ms"))
    node.lowering, node.offer = chosen, offers[chosen]
    return offers[chosen]


def preferred(seconds: dict[str, float]) -> str:
    """Of lowerings with their estimated seconds, in the operator's order, the one to take."""
    first, fastest = next(iter(seconds)), min(seconds, key=seconds.__getitem__)
    return fastest if CLEARLY * seconds[fastest] < seconds[first] else first


def describe_lowerings(graph: Graph) -> str:
    """The lowering of each node that launches something, on what measurement, and why others were refused."""
    lines = [*(f"layouts {note}" for note in graph.notes), "lowerings"]
    for node in graph.nodes:
        if node.offer is not None and node.offer.launches:
            lines.append(f"  {node.path or '-'} {node.op.name}: {node.lowering}")
            lines += [f"      {node.note}"] if node.note else []
            lines += [f"      not {name}: {reason}" for name, reason in node.refusals]
    return "\n".join(lines)
