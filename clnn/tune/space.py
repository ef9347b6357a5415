"""The ways to run one problem: every lowering that applies, with every configuration that its templates and choices allow."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from ..codegen.lowering import Lowering, Offer
from ..codegen.template import declaration
from ..config import config
from ..errors import LoweringError
from ..passes.choose_lowerings import preferred
from ..passes.costs import Costs
from ..target import Target
from .problem import Problem

MOST_SEEDS = 40
#: how much slower than the best by estimate a lowering may be to be looked at
PLAUSIBLE = 6.0
#: reasons that differ in numbers only are counted as one
NUMBER = re.compile(r"\b\d+\b")


class Setting(NamedTuple):
    """One value of a configuration: a tunable of ``template``, or a choice of the lowering where that is empty."""

    template: str
    name: str
    value: object


@dataclass(frozen=True)
class Candidate:
    """A lowering with a complete configuration."""

    lowering: str
    settings: tuple[Setting, ...] = ()

    @property
    def config(self) -> dict[str, object]:
        """The configuration as :class:`clnn.codegen.lowering.Context` takes it."""
        config: dict = {}
        for template, name, value in self.settings:
            if template:
                config.setdefault(template, {})[name] = value
            else:
                config[name] = value
        return config

    @classmethod
    def of(cls, lowering: str, config: Mapping[str, object]) -> Candidate:
        """The inverse of :attr:`config`."""
        settings = []
        for key, value in config.items():
            inner = value.items() if isinstance(value, Mapping) else ()
            settings += [Setting(key, *item) for item in inner] if inner else [Setting("", key, value)]
        return cls(lowering, tuple(sorted(settings, key=lambda s: s[:2])))

    def __str__(self) -> str:
        parts = [self.lowering]
        for template, group in itertools.groupby(self.settings, key=lambda s: s.template):
            values = " ".join(f"{s.name}={s.value}" for s in group)
            parts.append(f"{template} [{values}]" if template else values)
        return " ".join(parts)


def configuration(offer: Offer) -> dict[str, object]:
    """The configuration that an offer has taken, complete."""
    config: dict[str, object] = {choice.name: choice.value for choice in offer.choices}
    for launch in offer.launches:
        if launch.kernel.config:
            config.setdefault(launch.kernel.template, dict(launch.kernel.config))
    return config


def forced(problem: Problem) -> bool:
    """Whether the user has named the lowering of this operator."""
    return problem.op.name in config.lowering


class Dimension(NamedTuple):
    """One direction of the space: a tunable or a choice, and the values it can take, in order."""

    template: str
    name: str
    values: tuple


class Space:
    """The candidates of a problem on a target. What is refused is counted by reason in ``refusals``.

    Args:
        costs: by which passes choose among the lowerings what is run unmeasured, the default; without it, the first counts.
            Lowerings that are hopeless by estimate are left out.
    """

    def __init__(self, problem: Problem, target: Target, costs: Costs | None = None):
        self.problem, self.target = problem, target
        self.refusals: Counter[str] = Counter()
        self._lowerings: dict[str, Lowering] = {lowering.name: lowering for lowering in problem.op.lowerings}
        self._offers: dict[Candidate, Offer] = {}
        self._asked: dict[Candidate, Candidate | None] = {}
        self.starts = [start for name in self._lowerings if (start := self.candidate(name, {})) is not None]
        if not self.starts:
            raise LoweringError("no lowering applies", where=problem, got="; ".join(self.refusals))
        if costs is not None and not forced(problem):
            guesses = {start.lowering: costs.estimate(problem.op, problem.inputs, problem.outputs, self.offer(start))
                       for start in self.starts}
            chosen, limit = preferred(guesses), PLAUSIBLE * min(guesses.values())
            self.starts = sorted((start for start in self.starts if guesses[start.lowering] <= limit or start.lowering == chosen),
                                 key=lambda start: (start.lowering != chosen, guesses[start.lowering]))

    @property
    def default(self) -> Candidate:
        """What is run where nothing is measured."""
        return self.starts[0]

    def offer(self, candidate: Candidate) -> Offer:
        """The launches of a candidate that this space has given."""
        return self._offers[candidate]

    def candidate(self, lowering: str, config: Mapping[str, object]) -> Candidate | None:
        """The candidate that a configuration leads to, completed with defaults, or None if it is refused."""
        asked = Candidate.of(lowering, config)
        if asked not in self._asked:
            self._asked[asked] = self._complete(lowering, config)
        return self._asked[asked]

    def _complete(self, lowering: str, config: Mapping[str, object]) -> Candidate | None:
        if lowering not in self._lowerings:
            self.refusals[f"{lowering}: there is no such lowering"] += 1
            return None
        problem = self.problem
        try:
            offer = self._lowerings[lowering].offer(problem.op, problem.inputs, problem.outputs, self.target, config=dict(config))
        except LoweringError as error:
            self.refusals[f"{lowering}: {re.sub(NUMBER, '…', error.what)}"] += 1
            return None
        found = Candidate.of(lowering, configuration(offer))
        self._offers.setdefault(found, offer)
        return found

    def dimensions(self, candidate: Candidate) -> list[Dimension]:
        """In which directions one can go from a candidate."""
        offer = self.offer(candidate)
        found = [Dimension("", choice.name, _ordered(choice.values, choice.value)) for choice in offer.choices]
        for template in dict.fromkeys(launch.kernel.template for launch in offer.launches):
            current = {s.name: s.value for s in candidate.settings if s.template == template}
            found += [Dimension(template, tunable.name, _ordered(tunable.values, current[tunable.name]))
                      for tunable in declaration(template).tunables]
        return [dimension for dimension in found if len(dimension.values) > 1]

    def moved(self, candidate: Candidate, dimension: Dimension, value: object) -> Candidate | None:
        """The candidate with another value in one dimension, or None if that is refused."""
        return self._with(candidate, {dimension[:2]: value})

    def steps(self, candidate: Candidate, dimension: Dimension) -> list[Candidate]:
        """The neighbours in one dimension: the nearest value that is not refused on either side."""
        values = dimension.values
        at = values.index(next(s.value for s in candidate.settings if s[:2] == dimension[:2]))
        found = []
        for side in (values[at + 1:], values[:at][::-1]):
            neighbours = (self.moved(candidate, dimension, value) for value in side)
            found += [n for n in itertools.islice((n for n in neighbours if n not in (None, candidate)), 1)]
        return found

    def seeds(self) -> list[Candidate]:
        """Where to begin: every lowering as it is chosen unmeasured, then the curated configurations of its templates."""
        found: list[Candidate | None] = list(self.starts)
        for start in self.starts:
            for template in dict.fromkeys(launch.kernel.template for launch in self.offer(start).launches):
                found += [self._with(start, {(template, name): value for name, value in seed.items()})
                          for seed in declaration(template).seeds]
            for choice in self.offer(start).choices:
                found += [self._with(start, {("", choice.name): value}) for value in choice.values]
        return [c for c in dict.fromkeys(found) if c is not None][:MOST_SEEDS]

    def sample(self, rng: Random, attempts: int = 50) -> Candidate | None:
        """A candidate at random, every lowering equally likely; None if chance meets refusals only."""
        for _ in range(attempts):
            start = rng.choice(self.starts)
            drawn = {dimension[:2]: rng.choice(dimension.values) for dimension in self.dimensions(start)}
            if (found := self._with(start, drawn)) is not None:
                return found
        return None

    def mutated(self, candidate: Candidate, rng: Random, count: int = 2, attempts: int = 20) -> Candidate | None:
        """A candidate with up to ``count`` values drawn anew."""
        dimensions = self.dimensions(candidate)
        for _ in range(attempts if dimensions else 0):
            drawn = {d[:2]: rng.choice(d.values) for d in rng.sample(dimensions, min(rng.randint(1, count), len(dimensions)))}
            if (found := self._with(candidate, drawn)) not in (None, candidate):
                return found
        return None

    def crossed(self, one: Candidate, other: Candidate, rng: Random) -> Candidate | None:
        """A candidate with each value from one of two candidates of the same lowering."""
        if one.lowering != other.lowering:
            return None
        return self._with(one, {s[:2]: s.value for s in other.settings if rng.random() < 0.5})

    def _with(self, candidate: Candidate, values: Mapping[tuple[str, str], object]) -> Candidate | None:
        merged = {s[:2]: s.value for s in candidate.settings} | dict(values)
        changed = Candidate(candidate.lowering, tuple(Setting(*key, value) for key, value in merged.items()))
        return self.candidate(candidate.lowering, changed.config)


def _ordered(values: tuple, current: object) -> tuple:
    """The values with the current one among them, in order where they have one."""
    found = tuple(dict.fromkeys((*values, current)))
    return tuple(sorted(found)) if all(isinstance(value, (int, float)) for value in found) else found
