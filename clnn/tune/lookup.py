"""What is known about a problem: measured on this device, else on one like it, else for the nearest sizes."""

from __future__ import annotations

from dataclasses import dataclass

from ..config import config
from ..target import Target
from .problem import Problem, distance
from .store import Results, current, open_store, shipped, store_path

#: how far sizes may lie from those that were measured, in octaves
NEAR = 3.0
#: by what factor compute units may differ between devices of one kind
ALIKE = 2.0
#: what the nearest sizes, or an unfinished search, must have gained for their choice to be taken
GAIN = 1.05


@dataclass(frozen=True)
class Found:
    """A choice with its grounds. ``exact``: this very problem, device, driver and templates, by a search that was finished."""

    lowering: str
    config: dict
    default: bool
    seconds: float
    default_seconds: float
    exact: bool
    why: str


def find(problem: Problem, target: Target) -> Found | None:
    """The best founded choice for a problem, or None if nothing is known that applies."""
    own, given = open_store(store_path()).results(), shipped()
    if not own and not given:
        return None
    return _same(problem, target, own, given) or _unfinished(problem, target, own) or _nearest(problem, target, own, given)


def times(seconds: float, default: float) -> str:
    """A measured time beside the default's."""
    return f"{1e3 * seconds:.4g} ms" + (f", unmeasured choice {1e3 * default:.4g} ms" if default != seconds else "")


def _same(problem: Problem, target: Target, own: Results, given: Results) -> Found | None:
    ranked: list[tuple[int, int, int, str, dict]] = []
    for source in (given, own):
        for number, record in enumerate(source.by_key.get(problem.key, ())):
            if record["kind"] == "best" and (standing := _standing(record, target, source is given)) is not None:
                ranked.append((standing[0], -number, len(ranked), standing[1], record))
    if not ranked:
        return None
    rank, _, _, note, record = min(ranked, key=lambda entry: entry[:3])
    exact = rank == 0 and record.get("finished", True)
    return _found(record, exact, f"measured{note}: {times(record['seconds'], record['default_seconds'])}")


def _standing(record: dict, target: Target, from_shipped: bool) -> tuple[int, str] | None:
    """How far the device of a record is from this one, with what to say about it; None if too far."""
    device, rank, note = record["device"], 0, ""
    if device.get("name") != target.name:
        larger = max(device.get("units", 0), target.compute_units)
        smaller = min(device.get("units", 0), target.compute_units)
        if not from_shipped or device.get("kind") != target.kind or larger > ALIKE * smaller:
            return None
        rank, note = 4, f" on another {target.kind}, {device['name']},"
    elif device.get("driver") != target.driver:
        rank, note = 1, f" with driver {device.get('driver')}"
    if not current(record):
        rank, note = rank + 2, note + " with older kernels"
    return rank, note


def _unfinished(problem: Problem, target: Target, own: Results) -> Found | None:
    """The fastest of the trials of a search that was broken off."""
    trials = [record for record in own.by_key.get(problem.key, ())
              if record["kind"] == "trial" and record["seconds"] and _standing(record, target, False) == (0, "")]
    default = min((r["seconds"] for r in trials if r["default"]), default=None)
    if default is None:
        return None
    record = min(trials, key=lambda r: r["seconds"])
    if record["default"] or record["seconds"] * GAIN > default:
        return None
    return _found(record | {"default_seconds": default}, False,
                  f"measured by a search not yet finished: {times(record['seconds'], default)}")


def _nearest(problem: Problem, target: Target, own: Results, given: Results) -> Found | None:
    """What was best for the nearest sizes, if it was much better than the default there."""
    best, sizes = None, problem.sizes
    for source in (own, given):
        for record in source.by_family.get(problem.family, ()):
            away = distance(sizes, record["sizes"])
            if away > NEAR or (standing := _standing(record, target, source is given)) is None:
                continue
            if best is None or (standing[0], away) < best[0]:
                best = ((standing[0], away), standing[1], record)
    if best is None:
        return None
    (_, away), note, record = best
    if record["default"] or record["seconds"] * GAIN > record["default_seconds"]:
        return None
    shapes, there = " ".join(record["problem"]["inputs"][:2]), times(record["seconds"], record["default_seconds"])
    return _found(record, False, f"of the nearest sizes measured{note}, {shapes}: there {there}")


def _found(record: dict, exact: bool, why: str) -> Found:
    return Found(record["lowering"], record["config"], record["default"], record["seconds"], record["default_seconds"], exact,
                 why)


def known_at_all() -> bool:
    """Whether there is any result to look up; the cheap first question."""
    return bool(len(shipped()) or len(open_store(store_path()).results()))


def forced(problem: Problem) -> bool:
    """Whether the user has named the lowering of this operator."""
    return problem.op.name in config.lowering
