"""Choosing one option per node so that all nodes and the relayouts between them cost least together.

The exact problem is hard: a relayout is paid once however many nodes read its result. So the search starts from several
plain assignments, improves each node by node until nothing helps, and then tries to turn whole regions: a node that would gain
in another layout takes its neighbours along as long as that costs nothing more. It knows nothing of tensors, only of numbers,
and gives equal answers to equal questions.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

#: nodes that a region may take along
LARGEST_REGION = 48
#: differences below this are rounding
EPSILON = 1e-12


class Option(NamedTuple):
    """A way to run a node: the layouts of its inputs and outputs, and what it costs."""

    given: tuple[Hashable, ...]
    made: tuple[Hashable, ...]
    cost: float


@dataclass
class Tensor:
    """A value: who makes it, as (node, output) or not at all, who reads it, and what one relayout of it costs.

    ``start`` is its layout where no node makes it; ``wanted`` are layouts that it must have besides what nodes read.
    """

    move: float
    start: Hashable = None
    maker: tuple[int, int] | None = None
    readers: list[tuple[int, int]] = field(default_factory=list)
    wanted: tuple[Hashable, ...] = ()


class Assignment:
    """One option per node, with what each tensor's relayouts cost and the sum of all costs kept in step."""

    def __init__(self, options: Sequence[Sequence[Option]], tensors: Sequence[Tensor], touching: Sequence[Sequence[int]],
                 chosen: Sequence[int]):
        self.options, self.tensors, self.touching = options, tensors, touching
        self.chosen = list(chosen)
        self.moves = [self._moves(tensor) for tensor in tensors]
        self.total = sum(self.option(node).cost for node in range(len(options))) + sum(self.moves)

    def option(self, node: int) -> Option:
        return self.options[node][self.chosen[node]]

    def _moves(self, tensor: Tensor) -> float:
        """What the relayouts of a tensor cost as things are."""
        options, chosen = self.options, self.chosen
        made = tensor.start
        if tensor.maker is not None:
            node, slot = tensor.maker
            made = options[node][chosen[node]].made[slot]
        needed = {options[node][chosen[node]].given[slot] for node, slot in tensor.readers}
        needed.update(tensor.wanted)
        return tensor.move * (len(needed) - (made in needed))

    def try_change(self, node: int, option: int, allowed: float = -EPSILON) -> bool:
        """Take another option if the total grows by ``allowed`` at most."""
        old = self.chosen[node]
        if option == old:
            return False
        touched = self.touching[node]
        before = self.option(node).cost + sum(self.moves[number] for number in touched)
        self.chosen[node] = option
        moves = [self._moves(self.tensors[number]) for number in touched]
        grown = self.option(node).cost + sum(moves) - before
        if grown > allowed:
            self.chosen[node] = old
            return False
        self.total += grown
        for number, cost in zip(touched, moves, strict=True):
            self.moves[number] = cost
        return True

    def change(self, node: int, option: int) -> None:
        """Take another option whatever it costs."""
        self.try_change(node, option, math.inf)

    def improve(self) -> None:
        """Node by node, forwards and backwards, until nothing helps."""
        order = [node for node, options in enumerate(self.options) if len(options) > 1]
        changed = True
        while changed:
            changed = False
            for node in (*order, *reversed(order)):
                for option in range(len(self.options[node])):
                    changed |= self.try_change(node, option)

    def turn(self, node: int, option: int, neighbours: Sequence[Sequence[int]]) -> bool:
        """Take another option for a node, and then for its neighbours, theirs and so on as long as it costs nothing more;
        everything goes back unless all together costs less."""
        before, saved = self.total, {node: self.chosen[node]}
        layouts = {*self.options[node][option].given, *self.options[node][option].made}
        self.change(node, option)
        queue, met = [node], {node}
        for place in queue:
            if len(saved) >= LARGEST_REGION:
                break
            for other in neighbours[place]:
                if other in met:
                    continue
                met.add(other)
                old = self.chosen[other]
                for number, candidate in enumerate(self.options[other]):
                    if layouts >= {*candidate.given, *candidate.made} and self.try_change(other, number, EPSILON):
                        saved.setdefault(other, old)
                        queue.append(other)
        if self.total < before - EPSILON:
            return True
        for place, old in saved.items():
            self.change(place, old)
        return False


def link(options: Sequence[Sequence[Option]], tensors: Sequence[Tensor]) -> tuple[list[list[int]], list[list[int]]]:
    """For every node the tensors that it touches, and the nodes that it shares one with."""
    touching: list[list[int]] = [[] for _ in options]
    neighbours: list[dict[int, None]] = [{} for _ in options]
    for number, tensor in enumerate(tensors):
        members = list(dict.fromkeys([*([tensor.maker[0]] if tensor.maker else []), *(node for node, _ in tensor.readers)]))
        for node in members:
            touching[node].append(number)
            neighbours[node].update(dict.fromkeys(other for other in members if other != node))
    return touching, [list(found) for found in neighbours]


def search(options: Sequence[Sequence[Option]], tensors: Sequence[Tensor],
           starts: Iterable[Sequence[int]]) -> tuple[list[int], float]:
    """The cheapest assignment that is found from any of the starts, the earlier at equal cost, and its total."""
    touching, neighbours = link(options, tensors)
    best: Assignment | None = None
    for start in starts:
        found = Assignment(options, tensors, touching, start)
        found.improve()
        turned = True
        while turned:
            turned = False
            for node, its in enumerate(options):
                cheaper = [n for n, option in enumerate(its) if option.cost < found.option(node).cost - EPSILON]
                turned |= any(found.turn(node, option, neighbours) for option in cheaper)
            if turned:
                found.improve()
        if best is None or found.total < best.total - EPSILON:
            best = found
    return (best.chosen, best.total) if best is not None else ([], 0.0)


def total_of(options: Sequence[Sequence[Option]], tensors: Sequence[Tensor], chosen: Sequence[int]) -> float:
    """The cost of one assignment."""
    return Assignment(options, tensors, link(options, tensors)[0], chosen).total
