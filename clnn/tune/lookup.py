"""What is known about a problem: measured on this device, else on one like it, else for the nearest sizes, else for the nearest
sizes with other tails."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..codegen.lowering import SIZED
from ..target import Target
from .problem import Problem, distance
from .store import Results, current, device_facts, open_store, shipped, store_path

#: how far sizes may lie from those that were measured, in octaves
NEAR = 3.0
#: by what factor compute units may differ between devices of one kind
ALIKE = 2.0
#: what the nearest sizes, or an unfinished search, must have gained for their choice to be taken
GAIN = 1.05
#: by how much more for each octave that sizes lie apart: tiles fit the sizes that they were found for
FARTHER = 1.1
#: octaves by which what was measured with other tails counts as farther
OTHER_TAILS = 0.5


@dataclass(frozen=True)
class Found:
    """A choice with its grounds. ``exact``: this very problem, device, driver and templates, by a search that was finished.
    ``aged``: templates have changed since. ``lowerings``: those that the operator had when it was measured, where that is
    known."""

    lowering: str
    config: dict
    default: bool
    seconds: float
    default_seconds: float
    exact: bool
    aged: bool
    why: str
    lowerings: tuple[str, ...] = ()

    def met(self, lowering: str | None) -> bool:
        """Whether the search could compare with a lowering as it is now."""
        return lowering == self.lowering or (not self.aged and (not self.lowerings or lowering in self.lowerings))


def find(problem: Problem, target: Target) -> Found | None:
    """The best founded choice for a problem, or None if nothing is known that applies."""
    own, given = open_store(store_path()).results(), shipped()
    if not own and not given:
        return None
    if (found := _same(problem, target, own, given) or _unfinished(problem, target, own)) is not None:
        return found
    near = []
    for sizes, name, what in ((problem.sizes, "sizes", ""), (problem.kin_sizes, "kin_sizes", " with other tails")):
        sources = [(source.by_kin.get(problem.kin, ()) if what else source.by_family.get(problem.family, ()), source is given)
                   for source in (own, given)]
        if (found := _nearest(sizes, name, target, sources)) is not None:
            (rank, away), record, note = found
            near.append((rank, away + (OTHER_TAILS if what else 0.0), record, note, what, away))
    return _from_afar(*min(near, key=lambda entry: entry[:2])[2:]) if near else None


def fastest(problem: Problem, target: Target) -> float | None:
    """The least seconds that any way to run a problem took on this device, with whatever driver, and the kernels as they are."""
    given = shipped()
    seconds = [record["seconds"] for source in (given, open_store(store_path()).results())
               for record in source.by_key.get(problem.key, ())
               if record["seconds"] and (standing := _standing(record, target, source is given)) and standing[0] <= 1]
    return min(seconds, default=None)


def times(seconds: float, default: float) -> str:
    """A measured time beside the default's."""
    return f"{1e3 * seconds:.4g} ms" + (f", unmeasured choice {1e3 * default:.4g} ms" if default != seconds else "")


def _same(problem: Problem, target: Target, own: Results, given: Results) -> Found | None:
    ranked: list[tuple[int, bool, int, str, dict]] = []
    for source in (own, given):
        for number, record in enumerate(source.by_key.get(problem.key, ())):
            if record["kind"] == "best" and (standing := _standing(record, target, source is given)) is not None:
                ranked.append((standing[0], source is given, -number, standing[1], record))
    if not ranked:
        return None
    rank, _, _, note, record = min(ranked, key=lambda entry: entry[:3])
    if rank > 1 and not record["default"] and record["seconds"] * GAIN > record["default_seconds"]:
        return None         # too little for what is not quite the same
    exact = rank == 0 and record.get("finished", True)
    return _found(record, exact, f"measured{note}: {times(record['seconds'], record['default_seconds'])}")


def _standing(record: dict, target: Target, from_shipped: bool) -> tuple[int, str] | None:
    """How far the device of a record is from this one, with what to say about it; None if too far."""
    device, facts = record["device"], device_facts(target)
    if device == facts:
        rank, note = 0, ""
    elif target.is_cpu and device.get("kind") == "cpu":
        # names of CPUs say little; what counts is what code is compiled for, by whom, and how many cores share the caches
        if device.get("platform") != target.platform or device.get("vector") != target.vector_width or not _alike(device, target):
            return None
        same = device.get("isa") == facts["isa"] and device.get("driver") == target.driver
        rank, note = (0, "") if same and from_shipped else (1 if same else 4, f" on {_cpu(device)}")
    elif device.get("name") == target.name:
        rank, note = 1, f" with driver {device.get('driver')}"
    elif from_shipped and device.get("kind") == target.kind and _alike(device, target):
        rank, note = 4, f" on another {target.kind}, {device['name']},"
    else:
        return None
    if not current(record):
        rank, note = rank + 2, note + " with older kernels"
    return rank, note


def _alike(device: dict, target: Target) -> bool:
    """Whether a device has about as many compute units."""
    units = device.get("units", 0)
    return max(units, target.compute_units) <= ALIKE * min(units, target.compute_units)


def _cpu(device: dict) -> str:
    return f"{device.get('units')} cores of {device.get('isa') or device['name']}, {device.get('driver')}"


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


def _nearest(sizes: list[int], name: str, target: Target,
             sources: list[tuple[Iterable[dict], bool]]) -> tuple[tuple[int, float], dict, str] | None:
    """How far the device and the sizes are of the record of the nearest sizes that are near enough, the record, and what to say
    of its device; ``name`` is its field of sizes."""
    best = None
    for records, from_shipped in sources:
        for record in records:
            away = distance(sizes, record[name])
            if away > NEAR or (standing := _standing(record, target, from_shipped)) is None:
                continue
            if best is None or (standing[0], away) <= best[0]:       # the later of two that are equally near
                best = ((standing[0], away), record, standing[1])
    return best


def _from_afar(record: dict, note: str, what: str, away: float) -> Found | None:
    """What was best for other sizes, if it was much better than the default there, without what follows from those."""
    if record["default"] or record["seconds"] * GAIN * FARTHER**away > record["default_seconds"]:
        return None
    shapes, there = " ".join(record["problem"]["inputs"][:2]), times(record["seconds"], record["default_seconds"])
    config = {name: value for name, value in record["config"].items() if away == 0 or name.split()[0] not in SIZED}
    return _found(record | {"config": config}, False, f"of the nearest sizes measured{what}{note}, {shapes}: there {there}")


def _found(record: dict, exact: bool, why: str) -> Found:
    return Found(record["lowering"], record["config"], record["default"], record["seconds"], record["default_seconds"], exact,
                 not current(record), why, tuple(record.get("lowerings", ())))


def known_at_all() -> bool:
    """Whether there is any result to look up; the cheap first question."""
    return bool(len(shipped()) or len(open_store(store_path()).results()))
