"""Search strategies replayed on known times: how good, how many trials, the same again, and going on where one was stopped."""

from __future__ import annotations

import math

import pytest
from tune_landscapes import best, matmul_space, seconds

from clnn.errors import ArgumentError
from clnn.tune.search import STRATEGIES, search

SIZES = ((512, 512, 512), (1024, 1024, 256), (64, 64, 4096), (300, 70, 1000))


def replay(strategy, sizes, **options):
    space = matmul_space(*sizes)
    return space, search(strategy, space, lambda batch: [seconds(c, *sizes) for c in batch], **options)


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("strategy", ["descent", "evolution"])
def test_finds_within_five_percent_of_the_best(strategy, sizes):
    for seed in (0, 1):
        space, found = replay(strategy, sizes, seed=seed, trials=150)
        assert len(found) <= 150
        assert space.default in found
        assert min(found.values()) <= 1.05 * best(*sizes)


def test_chance_alone_needs_more_trials():
    _, found = replay("random", SIZES[0], trials=400)
    assert min(found.values()) <= 1.15 * best(*SIZES[0])


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_the_default_comes_first_and_no_candidate_twice(strategy):
    space, found = replay(strategy, SIZES[3], trials=60)
    assert next(iter(found)) == space.default
    assert len(found) == 60


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_equal_seeds_give_equal_searches(strategy):
    _, one = replay(strategy, SIZES[2], seed=5, trials=70)
    _, two = replay(strategy, SIZES[2], seed=5, trials=70)
    assert list(one.items()) == list(two.items())


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_goes_on_where_it_was_stopped(strategy):
    _, whole = replay(strategy, SIZES[2], trials=70)
    asked = []
    stops = iter([False, False, True])
    _, part = replay(strategy, SIZES[2], trials=70, stop=lambda: next(stops))
    assert 0 < len(part) < len(whole)
    space = matmul_space(*SIZES[2])

    def measure(batch):
        asked.extend(batch)
        return [seconds(c, *SIZES[2]) for c in batch]

    again = search(strategy, space, measure, trials=70, known=part)
    assert list(again.items()) == list(whole.items())
    assert not set(asked) & set(part)


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_survives_failures(strategy):
    """Two candidates of three fail; the search goes on and finds something that works."""
    space = matmul_space(*SIZES[0])
    number = iter(range(10**6))

    def measure(batch):
        return [seconds(c, *SIZES[0]) if next(number) % 3 == 0 else math.inf for c in batch]

    found = search(strategy, space, measure, trials=80)
    assert min(found.values()) < math.inf
    assert search(strategy, matmul_space(*SIZES[0]), lambda batch: [math.inf] * len(batch), trials=40)


def test_unknown_strategy():
    with pytest.raises(ArgumentError, match="unknown search strategy"):
        replay("guess", SIZES[0])
