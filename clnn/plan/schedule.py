"""The order of the nodes: dependencies, and every reader of a variable before the node that overwrites it."""

from __future__ import annotations

import heapq

from ..codegen.lowering import Launch
from ..codegen.template import declaration
from ..ir import Graph, Node, Value


def storage_root(value: Value) -> Value:
    """The value whose storage ``value`` uses: views lead to what they look at."""
    while value.node is not None and (source := value.node.op.view_of()) is not None:
        value = value.node.inputs[source]
    return value


def overwrites_in_place(old: Value, new: Value) -> bool:
    """Whether ``new`` can be written over ``old``: within its node, the old value is read only by the launch that writes the
    new one, at the element that it writes."""
    node = new.node
    if node is None or storage_root(new) is not new or node.offer is None:
        return False
    positions = [i for i, value in enumerate(node.inputs) if storage_root(value) is old]
    launches = node.offer.launches
    writers = [i for i, launch in enumerate(launches) if any(o.kind == "out" and o.index == new.index for o in launch.written)]
    if len(writers) != 1:
        return False
    for i, launch in enumerate(launches):
        touched = [o for o in launch.operands if o.kind == "in" and o.index in positions]
        if not touched or i < writers[0]:
            continue
        if i > writers[0] or any(
            not _declared(launch, name, new.index)
            for (name, _), o in zip(launch.kernel.reads, launch.reads, strict=True)
            if o.kind == "in" and o.index in positions
        ):
            return False
        for (_, store), group in zip(launch.kernel.stores, launch.stores, strict=True):
            for operand, spec in zip(group[: len(store.operands)], store.operands, strict=True):
                if (
                    operand.kind == "in"
                    and operand.index in positions
                    and (
                        spec.shape != store.result.shape
                        or spec.layout != store.result.layout
                        or all(o != ("out", new.index) for o in group[len(store.operands) :])
                    )
                ):
                    return False
    return True


def _declared(launch: Launch, read: str, output: int) -> bool:
    """Whether the template allows the store of this output to overwrite this input."""
    writer = next(name for (name, _), group in zip(launch.kernel.stores, launch.stores, strict=True) if ("out", output) in group)
    return (writer, read) in declaration(launch.kernel.template).in_place


def schedule(graph: Graph) -> tuple[list[Node], dict[Value, Value]]:
    """The nodes in execution order, and the updates {new value: variable} that may be written in place.

    An update that would have to come before a reader that itself needs the new value's node is left out; it needs a copy at the
    end.
    """
    position = {node: i for i, node in enumerate(graph.nodes)}
    before: dict[Node, set[Node]] = {node: {v.node for v in node.inputs if v.node is not None} for node in graph.nodes}
    readers: dict[Value, list[Node]] = {}
    for node in graph.nodes:
        for value in node.inputs:
            readers.setdefault(storage_root(value), []).append(node)
    kept = {storage_root(value) for value in graph.outputs}
    in_place: dict[Value, Value] = {}
    targets = list(graph.updates.values())
    for old, new in graph.updates.items():
        if targets.count(new) > 1 or old in kept or not overwrites_in_place(old, new):
            continue
        others = {node for node in readers.get(old, []) if node is not new.node}
        if not any(_reaches(before, node, new.node) for node in others):
            before[new.node] |= others
            in_place[new] = old
    waiting = {node: len(needs) for node, needs in before.items()}
    followers: dict[Node, list[Node]] = {node: [] for node in graph.nodes}
    for node, needs in before.items():
        for need in needs:
            followers[need].append(node)
    ready = [position[node] for node, count in waiting.items() if count == 0]
    heapq.heapify(ready)
    order: list[Node] = []
    while ready:
        node = graph.nodes[heapq.heappop(ready)]
        order.append(node)
        for follower in followers[node]:
            waiting[follower] -= 1
            if waiting[follower] == 0:
                heapq.heappush(ready, position[follower])
    return order, in_place


def _reaches(before: dict[Node, set[Node]], node: Node, wanted: Node) -> bool:
    """Whether ``wanted`` must come before ``node``."""
    stack, seen = [node], set()
    while stack:
        current = stack.pop()
        if current is wanted:
            return True
        if current not in seen:
            seen.add(current)
            stack.extend(before[current])
    return False
