"""Search strategies: generators that propose candidates, a few at a time, and are sent their seconds.

A strategy sees no device. It draws all chance from the generator it is given, so that equal answers lead to equal proposals: a
search that was stopped goes on where it was when it is told what is known already, and tests replay searches on known times.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Mapping
from random import Random

from ..errors import ArgumentError
from .space import Candidate, Space

Proposals = Generator[list[Candidate], list[float], None]
Strategy = Callable[[Space, Random], Proposals]

#: what counts as faster: less than this share of the time
FASTER = 0.99
#: rounds without anything faster after which a strategy gives up
PATIENCE = 8


class Board:
    """The seconds known so far; infinite for candidates that failed."""

    def __init__(self) -> None:
        self.seconds: dict[Candidate, float] = {}

    def ask(self, candidates: Iterable[Candidate | None]) -> Generator[list[Candidate], list[float], bool]:
        """Propose those that are not known yet; returns whether there were any."""
        fresh = [c for c in dict.fromkeys(candidates) if c is not None and c not in self.seconds]
        if not fresh:
            return False
        answers = yield fresh
        self.seconds.update(zip(fresh, answers, strict=True))
        return True

    def ranked(self) -> list[Candidate]:
        """The candidates that work, fastest first."""
        return sorted((c for c, s in self.seconds.items() if s < math.inf), key=self.seconds.__getitem__)

    def better(self, one: Candidate, other: Candidate) -> bool:
        return self.seconds[one] < FASTER * self.seconds[other]


def descent(space: Space, rng: Random) -> Proposals:
    """Curated seeds, then coordinate descent from the best of each lowering within twice the best; then from jolted bests."""
    board = Board()
    yield from board.ask(space.seeds())
    ranked = board.ranked()
    starts: dict[str, Candidate] = {}
    for candidate in ranked:
        if board.seconds[candidate] <= 2 * board.seconds[ranked[0]]:
            starts.setdefault(candidate.lowering, candidate)
    for start in starts.values():
        yield from _descend(space, rng, board, start)
    stale = 0
    while ranked and stale < PATIENCE:
        best = board.ranked()[0]
        jolted = space.mutated(best, rng, count=3)
        if jolted is None:
            return
        yield from board.ask([jolted])
        if board.seconds[jolted] < math.inf:
            yield from _descend(space, rng, board, jolted)
        stale = 0 if board.better(board.ranked()[0], best) else stale + 1


def _descend(space: Space, rng: Random, board: Board, current: Candidate) -> Generator[list[Candidate], list[float], None]:
    """Walk along one dimension after the other as long as it gets faster, until no dimension helps."""
    moved = True
    while moved:
        moved = False
        dimensions = [dimension[:2] for dimension in space.dimensions(current)]
        rng.shuffle(dimensions)
        for wanted in dimensions:
            while True:
                dimension = next((d for d in space.dimensions(current) if d[:2] == wanted), None)
                if dimension is None:                       # the step before took the template away
                    break
                neighbours = space.steps(current, dimension)
                yield from board.ask(neighbours)
                best = min(neighbours, key=board.seconds.__getitem__, default=current)
                if not board.better(best, current):
                    break
                current, moved = best, True


def random(space: Space, rng: Random) -> Proposals:
    """The default, then candidates by chance."""
    board = Board()
    yield from board.ask([space.default])
    stale = 0
    while stale < 4 * PATIENCE:
        asked = yield from board.ask(space.sample(rng) for _ in range(8))
        stale = 0 if asked else stale + 1


def evolution(space: Space, rng: Random, members: int = 12) -> Proposals:
    """Curated seeds, then generations bred from the fastest by exchanging and redrawing values."""
    board = Board()
    yield from board.ask(space.seeds())
    yield from board.ask(space.sample(rng) for _ in range(members // 2))
    stale = 0
    while board.ranked() and stale < 2 * PATIENCE:
        living = board.ranked()[:members]
        children = []
        for _ in range(members // 2):
            mother, father = (min(rng.choices(living, k=2), key=board.seconds.__getitem__) for _ in range(2))
            child = space.crossed(mother, father, rng) if rng.random() < 0.4 else None
            if child in (None, mother, father) or rng.random() < 0.3:
                child = space.mutated(child or mother, rng)
            children.append(child)
        yield from board.ask(children)
        stale = 0 if board.better(board.ranked()[0], living[0]) else stale + 1


STRATEGIES: dict[str, Strategy] = {"descent": descent, "random": random, "evolution": evolution}


def searching(strategy: str, space: Space, *, seed: int = 0, trials: int = 80, chunk: int = 8,
              known: Mapping[Candidate, float] | None = None, stop: Callable[[], bool] = lambda: False,
              ) -> Generator[list[Candidate], list[float], dict[Candidate, float]]:
    """A strategy step by step, for those who measure in their own time: yields a few candidates, none of them ``known``, and is
    sent their seconds, infinite for those that failed.

    Args:
        trials: candidates to look at, at most.
        chunk: candidates to measure at once, at most; ``stop`` is asked in between.

    Returns:
        Seconds by candidate, in the order in which they were proposed.
    """
    if strategy not in STRATEGIES:
        raise ArgumentError("unknown search strategy", where="strategy", got=strategy, expected=", ".join(STRATEGIES))
    known = known or {}
    found: dict[Candidate, float] = {}
    proposals = STRATEGIES[strategy](space, Random(seed))
    try:
        batch = next(proposals)
        while True:
            for first in range(0, len(batch), chunk):
                part = batch[first:first + chunk][:trials - len(found)]
                missing = [candidate for candidate in part if candidate not in known]
                answers = dict(zip(missing, (yield missing), strict=True)) if missing else {}
                found |= {candidate: known[candidate] if candidate in known else answers[candidate] for candidate in part}
                if len(found) >= trials or stop():
                    return found
            batch = proposals.send([found[candidate] for candidate in batch])
    except StopIteration:
        return found


def search(strategy: str, space: Space, measure: Callable[[list[Candidate]], list[float]], **options) -> dict[Candidate, float]:
    """Run a strategy with the options of :func:`searching`; ``measure`` gives the seconds of a few candidates."""
    steps = searching(strategy, space, **options)
    try:
        asked = next(steps)
        while True:
            asked = steps.send(measure(asked))
    except StopIteration as end:
        return end.value
