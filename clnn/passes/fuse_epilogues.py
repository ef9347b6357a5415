"""Pointwise operators move into the kernel that makes their input: bias, activation, residual, gradient masks and weight
updates alike."""

from __future__ import annotations

from ..codegen.expr import arg, substitute
from ..ir import Graph, Node, Value
from ..ops.fused import Fused
from ..ops.pointwise import Map, compact
from ..target import Target


def fuse_epilogues(graph: Graph, target: Target) -> Graph:
    """Attach Maps to the operators that produce one of their inputs in full shape.

    The Map's other inputs must not depend on that operator. A base output that others read as well stays an output. Where a Map
    could follow
    several producers, the last one in the graph takes it: the others' results exist by then.
    """
    graph = graph.clone()
    changed = True
    while changed:
        changed = False
        position = {node: i for i, node in enumerate(graph.nodes)}
        for node in graph.nodes:
            if isinstance(node.op, Map) and (value := _host(graph, node, position)) is not None:
                _attach(graph, value, node)
                changed = True
                break
    return graph


def _base(node: Node):
    return node.op.base if isinstance(node.op, Fused) else node.op


def _base_output(value: Value) -> int:
    """The number of the base output that a node's output belongs to."""
    op, position = value.node.op, value.index
    if not isinstance(op, Fused):
        return position
    tails = dict(op.tails)
    index = 0
    while position >= (width := len(tails[index].exprs) if index in tails else 1):
        position -= width
        index += 1
    return index


def _host(graph: Graph, node: Node, position: dict[Node, int]) -> Value | None:
    """The input of a Map whose producer can take it over."""
    candidates = []
    for value in node.inputs:
        producer = value.node
        if producer is None or value.shape != node.outputs[0].shape or isinstance(producer.op, Map):
            continue
        if _base_output(value) not in _base(producer).tail_outputs:
            continue
        others = [v for v in node.inputs if v.node is not producer]
        if any(v.node is producer and v is not value and _base_output(v) != _base_output(value) for v in node.inputs):
            continue
        if any(producer in graph.producers(v) for v in others):
            continue
        candidates.append(value)
    return max(candidates, key=lambda v: position[v.node], default=None)


def _attach(graph: Graph, value: Value, node: Node) -> None:
    producer = value.node
    index = _base_output(value)
    old = producer.op if isinstance(producer.op, Fused) else Fused(producer.op, (), (), len(producer.inputs))
    base_inputs, extra = old._split(producer.inputs)
    tails = dict(old.tails)
    # the outputs of the producer, grouped by base output: (values, expressions)
    groups: list[tuple[list[Value], list]] = []
    cursor = 0
    base_count = len(producer.outputs) - sum(len(t.exprs) - 1 for t in tails.values())
    for number in range(base_count):
        exprs = list(tails[number].exprs) if number in tails else [arg(0)]
        groups.append((list(producer.outputs[cursor:cursor + len(exprs)]), exprs))
        cursor += len(exprs)
    values, exprs = groups[index]
    dtypes = list(tails[index].output_dtypes()) if index in tails else [producer.outputs[0].dtype]
    operands = list(extra.get(index, ()))
    # the Map over (base output, operands of the tail so far, its own other inputs)
    pool = [None, *operands]
    replacements = {}
    for number, v in enumerate(node.inputs):
        if v.node is producer:
            replacements[arg(number)] = exprs[values.index(v)]
        else:
            if v not in pool:
                pool.append(v)
            replacements[arg(number)] = arg(pool.index(v))
    added = substitute(node.op.exprs, replacements)
    read = graph.kept().union(*(user.inputs for user in graph.nodes if user is not node))
    still = [i for i, v in enumerate(values) if v in read]
    all_exprs = [*(exprs[i] for i in still), *added]
    all_values = [*(values[i] for i in still), *node.outputs]
    all_dtypes = [*(dtypes[i] for i in still), *node.op.output_dtypes()]
    placeholder = Value(graph, producer.outputs[0].spec, "base")
    compacted, used = compact([arg(0), *all_exprs], [placeholder, *pool[1:]])
    tails[index] = Map(tuple(compacted[1:]), tuple(all_dtypes))
    extra[index] = tuple(used[1:])
    order = tuple(sorted(tails))
    op = Fused(old.base, tuple((i, tails[i]) for i in order), tuple(len(extra[i]) for i in order), old.base_inputs)
    inputs = (*base_inputs, *(v for i in order for v in extra[i]))
    specs, sources = [], []
    for number in range(base_count):
        group = all_values if number == index else groups[number][0]
        specs += [v.spec for v in group]
        sources += group
    twin = graph.append(op, inputs, specs, producer.path)
    # at the producer's place, so that it runs early and frees what it reads; the sort brings the operands forward
    graph.nodes.insert(graph.nodes.index(producer), graph.nodes.pop())
    graph.replace(dict(zip(sources, twin.outputs, strict=True)))
    graph.remove({producer, node})
    graph.sort()
