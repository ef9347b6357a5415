"""The measuring loop: prepare all contestants of a case, check their outputs, then let them run in turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from bench.cases import NETWORK_TOLERANCE, TOLERANCE, UPDATE_TOLERANCE, Case, sample
from bench.opponents import Opponent
from bench.options import Options
from bench.record import save
from bench.roofline import Roofline, spread
from bench.side import Apart, Local, Remote, Unable
from clnn.errors import ClnnError

Reference = Callable[[Case, int, np.ndarray, np.ndarray], np.ndarray | None]


@dataclass
class Entry:
    """One contestant in one case."""

    who: str
    variant: dict
    side: Local | Remote | Apart
    handle: int | tuple[str, int]
    facts: dict
    repeats: int = 1
    seconds: list[float] = field(default_factory=list)
    device_s: float | None = None
    result: dict = field(default_factory=dict)
    failed: str = ""

    def attempt(self, what: str, *arguments):
        """An answer of its side; None from the first one on that it cannot give."""
        if not self.failed:
            try:
                return getattr(self.side, what)(self.handle, *arguments)
            except (Unable, ClnnError) as error:
                self.failed = " ".join(str(error).split()) or type(error).__name__
        return None

    @property
    def label(self) -> str:
        v = self.variant
        layout = v["layout"] if v["layout"] != "NCHW" or self.who.startswith("torch") else ""
        return " ".join(filter(None, [self.who, v["precision"], layout, v["mode"] if v["mode"] != "eager" else ""]))


class Competition:
    """Runs the cases of one suite and keeps its JSON up to date.

    Args:
        reference: (case, output, indices, values) → what the values should be. Without it the first opponent in fp32 says.
        own_variants: the variants in which clnn takes part, beside the precisions.
    """

    def __init__(self, suite: str, options: Options, reference: Reference | None = None, own_variants: tuple[dict, ...] = ({},)):
        self.suite, self.options, self.reference = suite, options, reference
        self.roofline = Roofline(options.session, options.peaks, options.copy_gbs)
        self.own_variants = own_variants
        self.tolerance = NETWORK_TOLERANCE if suite == "models" else TOLERANCE
        self.result: dict = {"suite": suite, "options": options.to_json(), "contestants": {}, "absent": {},
                             "tolerance": self.tolerance, "cases": []}
        #: results with flops and bytes of their launches, precision and tensor: what their roofs are made of
        self._work: list[tuple[dict, list, str, int | None]] = []
        self._saved = time.monotonic()

    # -- contestants ------------------------------------------------------------------------------------------------

    def _start(self) -> list[tuple[str, Local | Remote | Apart, list[dict]]]:
        plain = {"layout": "NCHW", "mode": "eager"}
        own = [{**plain, "precision": p, **v} for p in self.options.precisions for v in self.own_variants]
        started: list[tuple[str, Local | Remote | Apart, list[dict]]] = [("clnn", Local(self.options.ours()), own)]
        for opponent in self.options.opponents:
            variants = [variant for variant in opponent.variants(self.suite, self.options.precisions)
                        if not self.options.modes or variant["mode"] in self.options.modes]
            try:
                if not variants:
                    raise Unable(f"takes no part in {self.suite} with {', '.join(self.options.precisions)}")
                started.append((opponent.name, self._process(opponent, variants), variants))
            except Unable as error:
                self.result["absent"][opponent.name] = str(error)
                print(f"without {opponent.name}: {error}", flush=True)
        self.result["contestants"] = {name: side.about for name, side, _ in started}
        return started

    def _process(self, opponent: Opponent, variants: list[dict]) -> Remote | Apart:
        environment = {**opponent.environment, "BENCH_DEVICE": self.options.device.id}
        limit = self.options.limit or opponent.limit
        if self.suite in opponent.apart:
            return Apart(opponent.name, environment, limit, variants)
        return Remote(opponent.name, environment, limit)

    def run(self, cases: Iterable[Case]) -> dict:
        """Measure all cases that the options let through; returns the result, which is saved."""
        cases = [case for case in cases if self.options.wants(case.name)]
        started = self._start()
        self.result["roofline"] = self.roofline.to_json()
        print(f"{self.suite}: {len(cases)} cases on {self.options.device}", flush=True)
        try:
            for number, case in enumerate(cases, 1):
                found = self._case(case, started)
                self.result["cases"].append(found)
                print(f"[{number}/{len(cases)}] {summary(found)}", flush=True)
                self._save(finished=False)
        finally:
            for _, side, _ in started:
                side.close()
            self._save(finished=True)
        return self.result

    def _save(self, finished: bool) -> None:
        if finished or time.monotonic() - self._saved > 20:
            self.roofline.look_again()
            for parts in self._work:
                self._bind(*parts)
            self.result["roofline"] = self.roofline.to_json()
            path = save(self.options.name(self.suite), self.options.device, self.result, self.options.out)
            self._saved = time.monotonic()
            if finished:
                print(path, flush=True)

    # -- one case ---------------------------------------------------------------------------------------------------

    def _case(self, case: Case, started) -> dict:
        entries, skipped = [], []
        for who, side, variants in started:
            for variant in variants:
                try:
                    handle, facts = side.prepare(case, variant)
                except Unable as error:
                    skipped.append({"who": who, "variant": variant, "reason": str(error)})
                    continue
                entries.append(Entry(who, variant, side, handle, facts))
        try:
            self._check(case, entries)
            self._time(entries)
            results = [self._entry(case, entry) for entry in entries if not entry.failed]
        finally:
            for entry in entries:
                entry.side.release(entry.handle)
        skipped += [{"who": entry.who, "variant": entry.variant, "reason": entry.failed} for entry in entries if entry.failed]
        return {"name": case.name, "kind": case.kind, "group": case.group, "params": case.params, "flops": case.flops,
                "bytes": case.bytes, "copies": case.copies, "results": results, "skipped": skipped}

    def _check(self, case: Case, entries: list[Entry]) -> None:
        """The largest error on the scale of the reference, over sampled elements of each output."""
        errors: dict[int, float] = {id(entry): 0.0 for entry in entries}
        falls: dict[int, float] = {}
        judge = None
        for number, shape in enumerate(case.outputs):
            size = int(np.prod(shape))
            indices = sample(size, case.flops // (2 * max(size, 1)))
            given = {id(entry): entry.attempt("values", number, indices) for entry in entries}
            entries = [entry for entry in entries if not entry.failed]
            for entry in entries:
                values = given[id(entry)]
                wanted = self.reference(case, number, indices, values) if self.reference else None
                if wanted is None:
                    fit = [e for e in entries if e.who != "clnn" and e.variant["precision"] == "fp32"]
                    if not fit:
                        errors[id(entry)] = float("nan")
                        continue
                    judge, wanted = fit[0].label, given[id(fit[0])]
                error = float(np.nan_to_num(np.abs(values - wanted).max() / (np.abs(wanted).max() or 1.0), nan=1e9))
                if case.kind == "train" and number == 2:
                    falls[id(entry)] = error
                else:
                    errors[id(entry)] = max(errors[id(entry)], error)
        for entry in entries:
            error, fall, precision = errors[id(entry)], falls.get(id(entry)), entry.variant["precision"]
            wrong = error > self.tolerance[precision] or (precision == "fp32" and (fall or 0) > UPDATE_TOLERANCE)
            entry.result = {"error": None if error != error else error, "update_error": fall,
                            "reference": judge or ("float64" if self.reference else None),
                            "wrong": bool(wrong)}

    def _time(self, entries: list[Entry]) -> None:
        target = self.options.target_s
        for entry in entries:
            once = min(entry.attempt("time", 1) or target for _ in range(2))
            entry.repeats = max(1, min(2000, int(target / max(once, 1e-7))))
            if entry.repeats > 10:
                once = entry.attempt("time", 10) or target
                entry.repeats = max(1, min(5000, int(target / max(once, 1e-7))))
        for turn in range(self.options.rounds):
            start = turn % max(len(entries), 1)         # nobody always runs first
            for entry in entries[start:] + entries[:start]:
                entry.seconds.append(entry.attempt("time", entry.repeats) or 0.0)
        for entry in entries:
            entry.device_s = entry.attempt("device_seconds", max(entry.repeats, 3))

    def _entry(self, case: Case, entry: Entry) -> dict:
        found = spread(entry.seconds)
        precision = entry.variant["precision"]
        largest = max(int(np.prod(shape)) * 4 for shape in (*case.inputs.values(), *case.outputs))
        tensor = largest if self.suite == "memory" else None
        kernels = entry.facts.pop("kernels", [])
        work = kernels or ([(case.flops, case.bytes)] if case.flops or case.bytes else [])
        flops = case.flops or sum(flops for flops, _ in kernels)
        result = {"who": entry.who, "label": entry.label, "variant": entry.variant, **found, "rounds": len(entry.seconds),
                  "repeats": entry.repeats, "device_s": entry.device_s,
                  "gflops": flops / found["median_s"] / 1e9, "gbs": case.bytes / found["median_s"] / 1e9, **entry.result,
                  **entry.facts}
        self._work.append((result, work, precision, tensor))
        self._bind(*self._work[-1])
        return result

    def _bind(self, result: dict, work: list, precision: str, tensor: int | None) -> None:
        """Put the roof beside a result, as far as the roof is known by now."""
        parts = [self.roofline.bound(flops, nbytes, precision, tensor) for flops, nbytes in work]
        bound = sum(parts) if parts and None not in parts else None
        result |= {"bound_s": bound, "of_bound": bound / result["median_s"] if bound else None}


def summary(found: dict) -> str:
    """One line per case."""
    parts = []
    for entry in found["results"]:
        share = f", {100 * entry['of_bound']:.0f} % of roof" if entry["of_bound"] and entry["who"] == "clnn" else ""
        wrong = f" WRONG (error {entry['error']:.1e}, of the updates {entry['update_error']})" if entry["wrong"] else ""
        parts.append(f"{entry['label']} {entry['median_s'] * 1e3:.4g} ms{share}{wrong}")
    missing = {" ".join((s["who"], s["variant"]["mode"])).removesuffix(" eager"): s["reason"] for s in found["skipped"]}
    parts += [f"without {who}: {reason[:90]}" for who, reason in missing.items()]
    return f"{found['name']}: " + " · ".join(parts)
