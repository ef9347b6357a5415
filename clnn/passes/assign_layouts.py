"""Chooses how images lie in memory, and inserts the relayouts that this costs."""

from __future__ import annotations

import math
from collections.abc import Iterable

from ..codegen.lowering import Offer
from ..config import config
from ..errors import ArgumentError, LoweringError
from ..ir import NHWC, ROW, Graph, Layout, Node, Op, Value, blocked
from ..ops.relayout import Relayout
from ..ops.shape import Reshape
from ..target import Target
from .costs import Costs, Specs
from .layout_search import Option, Tensor, search, total_of
from .offers import Offers

#: what ``CLNN_LAYOUT`` may say
NAMES = ("auto", "NCHW", "NHWC", "NCHWc")
#: what another layout must promise to take the place of row-major order: times are not known better than this
WORTHWHILE = 0.95

Layouts = tuple[tuple[Layout, ...], tuple[Layout, ...]]


def assign_layouts(graph: Graph, target: Target, costs: Costs | None = None, offers: Offers | None = None) -> Graph:
    """Give every node the layouts in which all nodes and the relayouts between them take the least time together.

    Where times are not known (``costs`` is None), or ``CLNN_LAYOUT`` names a layout, bytes that must be moved are weighed against
    bytes that do not lie in the preferred layout. Inputs, variables and outputs of the graph stay row-major.
    """
    if config.layout not in NAMES:
        raise ArgumentError("unknown layout", where="CLNN_LAYOUT", got=config.layout, expected=" or ".join(NAMES))
    graph = graph.clone()
    question = "" if costs is None or config.layout != "auto" else _question(graph)
    if question and (known := _known(graph, costs.recall(question))) is not None:
        layouts, notes = known
    else:
        layouts, notes = _choose(graph, target, costs, offers)
        if question:
            costs.keep(question, {"notes": notes, "layouts": [[[[layout.name, layout.block] for layout in side] for side in its]
                                                              for its in layouts]})
    graph.notes += notes
    return _insert(graph, layouts)


def _choose(graph: Graph, target: Target, costs: Costs | None, offers: Offers | None) -> tuple[list[Layouts], list[str]]:
    """The layouts of all nodes, and what to tell people about them."""
    offered = _Offered(offers or Offers(target))
    ways = [offered.of(node) for node in graph.nodes]
    notes = []
    if all(len(found) == 1 for found in ways):
        chosen = [0] * len(ways)
    elif costs is None or config.layout != "auto":
        chosen = _by_bytes(graph, ways, _preferred(target))
    else:
        chosen, note = _by_seconds(graph, ways, costs)
        notes.append(note)
    return [list(found)[number] for found, number in zip(ways, chosen, strict=True)], notes


# -- what was chosen before -----------------------------------------------------------------------------------------------

def _question(graph: Graph) -> str:
    """All of a graph that the choice follows from, besides the times."""
    numbers: dict[Value, int] = {}

    def of(values: Iterable[Value]) -> str:
        return " ".join(f"{numbers.setdefault(value, len(numbers))}:{value.kind[0]}{value.spec}" for value in values)

    lines = [f"{node.op!r} {of(node.inputs)} -> {of(node.outputs)}" for node in graph.nodes]
    return "\n".join([*lines, of(graph.outputs), *(f"{of([old])} <- {of([new])}" for old, new in graph.updates.items())])


def _known(graph: Graph, answer) -> tuple[list[Layouts], list[str]] | None:
    """Layouts and notes from an answer that was kept; None if it is none for this graph."""
    try:
        notes = list(map(str, answer["notes"]))
        layouts = [tuple(tuple(Layout(*layout) for layout in side) for side in its) for its in answer["layouts"]]
        fit = all(layout.fits(value.shape) for node, its in zip(graph.nodes, layouts, strict=True)
                  for values, side in zip((node.inputs, node.outputs), its, strict=True)
                  for value, layout in zip(values, side, strict=True))
    except (KeyError, TypeError, ValueError):
        return None
    return (layouts, notes) if fit else None


def _preferred(target: Target) -> Layout:
    """What the configuration prefers; blocks of channels are those of the device, NCHW where it has none."""
    if config.layout == "NCHWc" and target.channel_block:
        return blocked(target.channel_block)
    return NHWC if config.layout == "NHWC" else ROW


# -- what each node could do --------------------------------------------------------------------------------------------

class _Offered:
    """The layouts in which some lowering really offers to run a node, with these offers; equal nodes are asked once."""

    def __init__(self, offers: Offers):
        self.offers = offers
        self._known: dict[tuple, dict[Layouts, list[Offer]]] = {}

    def of(self, node: Node) -> dict[Layouts, list[Offer]]:
        if isinstance(node.op, Reshape):
            return {((ROW,), (ROW,)): []}
        inputs, outputs = tuple(v.spec for v in node.inputs), tuple(v.spec for v in node.outputs)
        key = (node.op, inputs, outputs)
        if key not in self._known:
            self._known[key] = self._ask(node, inputs, outputs)
        return self._known[key]

    def _ask(self, node: Node, inputs: Specs, outputs: Specs) -> dict[Layouts, list[Offer]]:
        found: dict[Layouts, list[Offer]] = {}
        reasons = []
        wanted, own = config.lowering.get(node.op.name), self.offers.target.channel_block
        forced: set[Layouts] = set()
        for lowering in sorted(node.op.lowerings, key=lambda lowering: lowering.name != wanted):
            for given, made in lowering.layouts(node.op, inputs, outputs):
                given, made = tuple(given), tuple(made)
                fits = all(layout.fits(spec.shape) for layout, spec in
                           zip((*given, *made), (*inputs, *outputs), strict=True))
                if not fits or (given, made) in forced or any(layout.block not in (0, own) for layout in (*given, *made)):
                    continue
                try:
                    offer = self.offers.of(lowering, node.op, laid(inputs, given), laid(outputs, made), lowering.name == wanted)
                except LoweringError as error:
                    reasons.append(f"{lowering.name}: {error.what}")
                    continue
                found.setdefault((given, made), []).append(offer)
                if lowering.name == wanted:
                    forced.add((given, made))
        if not found:
            raise LoweringError("no lowering applies in any layout", where=f"{node.path} {node.op.name}", got="; ".join(reasons))
        return found


def laid(specs: Specs, layouts: tuple[Layout, ...]) -> Specs:
    """Specs with these layouts."""
    return tuple(spec.with_layout(layout) for spec, layout in zip(specs, layouts, strict=True))


# -- weighing -----------------------------------------------------------------------------------------------------------

def _tensors(graph: Graph, move) -> list[Tensor]:
    """The values of a graph for the search; those that can lie in one way only are left out."""
    found: dict[Value, Tensor] = {}
    for number, node in enumerate(graph.nodes):
        for slot, value in enumerate(node.outputs):
            found[value] = Tensor(move(value.spec), None, (number, slot))
        for slot, value in enumerate(node.inputs):
            if value not in found:
                found[value] = Tensor(move(value.spec), value.spec.layout)
            found[value].readers.append((number, slot))
    for value in graph.outputs:
        if value in found:
            found[value].wanted = (ROW,)
    for old, new in graph.updates.items():
        if new in found:
            found[new].wanted = (*dict.fromkeys((*found[new].wanted, old.spec.layout)),)
    return [tensor for value, tensor in found.items() if value.spec.rank == 4]


def _uniform(options: list[list[Option]], layout: Layout) -> list[int]:
    """For every node the cheapest of the options that have most tensors in this layout."""
    return [min(range(len(its)), key=lambda n: (-sum(lies == layout for lies in (*its[n].given, *its[n].made)), its[n].cost, n))
            for its in options]


def _present(graph: Graph, ways: list[dict[Layouts, list[Offer]]]) -> list[int]:
    """The layouts that the graph has already."""
    found = []
    for node, its in zip(graph.nodes, ways, strict=True):
        now = (tuple(v.spec.layout for v in node.inputs), tuple(v.spec.layout for v in node.outputs))
        found.append(list(its).index(now) if now in its else 0)
    return found


def _by_bytes(graph: Graph, ways: list[dict[Layouts, list[Offer]]], preferred: Layout) -> list[int]:
    options = []
    for node, its in zip(graph.nodes, ways, strict=True):
        options.append([Option(given, made, 8.0 * sum(v.spec.nbytes for v, layout in zip(node.outputs, made, strict=True)
                                                      if v.spec.rank == 4 and layout != preferred) + 1e-3 * rank)
                        for rank, (given, made) in enumerate(its)])
    starts = [_present(graph, ways), _uniform(options, preferred)]
    return search(options, _tensors(graph, lambda spec: 2.0 * spec.nbytes), starts)[0]


def _by_seconds(graph: Graph, ways: list[dict[Layouts, list[Offer]]], costs: Costs) -> tuple[list[int], str]:
    known: dict[tuple, list[Option]] = {}
    options = []
    for node, its in zip(graph.nodes, ways, strict=True):
        inputs, outputs = tuple(v.spec for v in node.inputs), tuple(v.spec for v in node.outputs)
        key = (node.op, inputs, outputs)
        if key not in known:
            known[key] = _priced(node.op, inputs, outputs, its, costs)
        options.append(known[key])
    tensors = _tensors(graph, costs.relayout)
    layouts = list(dict.fromkeys([ROW, *(lies for its in options for option in its for lies in (*option.given, *option.made))]))
    uniform = {layout: _uniform(options, layout) for layout in layouts}
    plain = uniform[ROW]
    totals = {layout: total_of(options, tensors, chosen) for layout, chosen in uniform.items()}
    chosen, total = search(options, tensors, [_present(graph, ways), *uniform.values()])
    if total > WORTHWHILE * totals[ROW]:
        chosen, total = search(options, tensors, [plain]) if total > totals[ROW] else (plain, totals[ROW])
    return chosen, _told(options, chosen, total, totals)


def _priced(op: Op, inputs: Specs, outputs: Specs, ways: dict[Layouts, list[Offer]], costs: Costs) -> list[Option]:
    """What each way costs: as measured, else as estimated. Where other layouts of the same operator were measured, its estimates
    are corrected by what they were off there, so that optimism about the unknown does not win."""
    if len(ways) == 1:
        return [Option(*layouts, 0.0) for layouts in ways]      # there is no choice, so it does not matter
    estimates, times = [], []
    for (given, made), offers in ways.items():
        specs = laid(inputs, given), laid(outputs, made)
        estimates.append(min((costs.estimate(op, *specs, offer) for offer in offers), default=0.0))
        times.append(costs.measured(op, *specs))
    off = [time / guess for time, guess in zip(times, estimates, strict=True) if time is not None and guess > 0]
    correction = math.exp(sum(map(math.log, off)) / len(off)) if off else 1.0
    return [Option(*layouts, correction * guess if time is None else time)
            for layouts, guess, time in zip(ways, estimates, times, strict=True)]


def _told(options: list[list[Option]], chosen: list[int], total: float, totals: dict[Layout, float]) -> str:
    """What was chosen against what, for people."""
    used = {layout: sum(layout in its[number].made for its, number in zip(options, chosen, strict=True) if len(its) > 1)
            for layout in totals}
    name = " and ".join(f"{layout} ({count} nodes)" if sum(map(bool, used.values())) > 1 else str(layout)
                        for layout, count in used.items() if count) or str(ROW)
    others = ", ".join(f"all {layout} {1e3 * seconds:.3g} ms" for layout, seconds in totals.items())
    return f"{name} {1e3 * total:.3g} ms against {others} (nodes with a choice, and relayouts)"


# -- rewriting ----------------------------------------------------------------------------------------------------------

def _insert(graph: Graph, layouts: list[Layouts]) -> Graph:
    """The graph with these layouts of its nodes, and relayouts where a value is read in another one."""
    copies: dict[tuple[Value, Layout], Value] = {}
    nodes, graph.nodes = graph.nodes, []
    same: dict[Value, Value] = {}
    for node, (given, made) in zip(nodes, layouts, strict=True):
        node.inputs = tuple(same.get(value, value) for value in node.inputs)
        inputs = [_in_layout(graph, value, layout, copies, node.path) for value, layout in zip(node.inputs, given, strict=True)]
        specs = [value.spec.with_layout(layout) for value, layout in zip(node.outputs, made, strict=True)]
        twin = graph.append(node.op, inputs, specs, node.path)
        same.update(zip(node.outputs, twin.outputs, strict=True))
    graph.replace(same)
    graph.outputs = [_in_layout(graph, value, ROW, copies, "outputs") for value in graph.outputs]
    graph.updates = {old: _in_layout(graph, new, old.spec.layout, copies, old.name) for old, new in graph.updates.items()}
    return graph


def _in_layout(graph: Graph, value: Value, layout: Layout, copies: dict[tuple[Value, Layout], Value], path: str) -> Value:
    """``value`` in ``layout``, by a relayout node if need be; one per value and layout."""
    if value.spec.layout == layout:
        return value
    if (value, layout) not in copies:
        copies[value, layout] = graph.append(Relayout(layout), [value], [value.spec.with_layout(layout)], path).outputs[0]
        copies[copies[value, layout], value.spec.layout] = value
    return copies[value, layout]
