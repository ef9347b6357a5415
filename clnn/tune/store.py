"""Results on disk: JSON lines that are only ever appended, so that several processes may write at once harmlessly.

A line is one result: a ``trial`` (one candidate of one problem, its seconds or the reason of its failure) or a ``best`` (what a
search chose, with the default's seconds measured beside it). What cannot be read, such as a line cut short by a crash, the work
of a newer version, or garbage, is skipped and stays where it is.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..codegen.template import folder
from ..config import config
from ..errors import FileError
from ..target import Target
from .problem import Problem
from .space import Candidate

VERSION = 1
#: bytes by which a file is known again
ENDING = 256
#: how a template names what it includes
INCLUDED = re.compile(rb'file="/([\w/.-]+)"')
_REQUIRED = {"version": int, "kind": str, "key": str, "family": str, "device": dict, "lowering": str, "config": dict}


@dataclass
class Results:
    """The readable lines of some files, by problem and by family."""

    by_key: dict[str, list[dict]] = field(default_factory=dict)
    by_family: dict[str, list[dict]] = field(default_factory=dict)
    by_kin: dict[str, list[dict]] = field(default_factory=dict)

    def add(self, record: dict) -> None:
        self.by_key.setdefault(record["key"], []).append(record)
        if record["kind"] == "best":
            self.by_family.setdefault(record["family"], []).append(record)
            if "kin" in record:
                self.by_kin.setdefault(record["kin"], []).append(record)

    def __len__(self) -> int:
        return sum(map(len, self.by_key.values()))

    def __iter__(self):
        return (record for records in self.by_key.values() for record in records)


class Store:
    """One file of results."""

    def __init__(self, path: Path):
        self.path = Path(path)
        #: what was read so far: of which file, how many bytes, and the last of them
        self._results, self._inode, self._read, self._end = Results(), -1, 0, b""

    def append(self, record: dict, sync: bool = True) -> None:
        """Add one line, in a single write; with ``sync`` it reaches the disk before this returns.

        Raises:
            FileError: if the file cannot be written.
        """
        self._write(_text(record).encode(), sync)

    def _write(self, line: bytes, sync: bool = True) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                size = os.fstat(handle).st_size
                if size and os.pread(handle, 1, size - 1) != b"\n":     # a line was cut short here: do not go on in it
                    line = b"\n" + line
                if os.write(handle, line) != len(line):
                    raise OSError("the disk is full")
                if sync:
                    os.fsync(handle)
            finally:
                os.close(handle)
        except OSError as error:
            raise FileError("tuning results cannot be written", where=self.path, got=error.strerror or error,
                            hint="CLNN_TUNE_STORE names another file") from error

    def results(self) -> Results:
        """What the file holds now; only what has been appended since the last time is read."""
        try:
            with self.path.open("rb") as file:
                stat = os.fstat(file.fileno())
                if stat.st_ino != self._inode or stat.st_size < self._read or not self._as_it_was(file):
                    self._results, self._inode, self._read, self._end = Results(), stat.st_ino, 0, b""
                if stat.st_size > self._read:
                    file.seek(self._read)
                    text = file.read()
                    whole = text.rfind(b"\n") + 1        # a line that is being written is for the next time
                    self._read += whole
                    self._end = (self._end + text[:whole])[-ENDING:]
                    for line in text[:whole].split(b"\n"):
                        if line.strip() and (record := parse(line)) is not None:
                            self._results.add(record)
        except FileNotFoundError:
            self._results, self._inode, self._read, self._end = Results(), -1, 0, b""
        except OSError as error:
            raise FileError("tuning results cannot be read", where=self.path, got=error.strerror or error) from error
        return self._results

    def _as_it_was(self, file) -> bool:
        """Whether what was read last still stands where it was, or another file has taken the place of that one."""
        file.seek(self._read - len(self._end))
        return file.read(len(self._end)) == self._end

    def lines(self) -> list[bytes]:
        """The complete lines of the file, readable or not."""
        try:
            return [line for line in self.path.read_bytes().split(b"\n")[:-1] if line.strip()]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise FileError("tuning results cannot be read", where=self.path, got=error.strerror or error) from error

    def merge(self, other: Path) -> tuple[int, int]:
        """Append the lines of another file that are not here yet, also those that only a newer version understands.

        Returns:
            The number of lines taken over, and of those that are neither.

        Raises:
            FileError: if the other file cannot be read.
        """
        if not Path(other).is_file():
            raise FileError("there is no such file of tuning results", where=other)
        present, refused = set(self.lines()), 0
        missing: list[bytes] = []
        for line in Store(other).lines():
            if parse(line) is None and not _newer(line):
                refused += 1
            elif line not in present:
                present.add(line)
                missing.append(line)
        for number, line in enumerate(missing, start=1):
            self._write(line + b"\n", sync=number == len(missing))
        return len(missing), refused

    def export(self, path: Path) -> int:
        """Write the ``best`` lines to another file, one per device and problem, the latest; returns how many.

        Raises:
            FileError: if the other file is this one, or cannot be written.
        """
        if Path(path).resolve() == self.path.resolve():
            raise FileError("results cannot be exported into the file that they come from", where=path)
        latest = {(json.dumps(r["device"], sort_keys=True), r["key"]): r for r in self.results() if r["kind"] == "best"}
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_text("".join(_text(record) for record in latest.values()))
        except OSError as error:
            raise FileError("tuning results cannot be written", where=path, got=error.strerror or error) from error
        return len(latest)


def _text(record: dict) -> str:
    return json.dumps(record, sort_keys=True, separators=(",", ":")) + "\n"


def parse(line: bytes) -> dict | None:
    """A line as a record, or None if this version cannot read it."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    if not isinstance(record, dict) or record.get("version") != VERSION:
        return None
    return record if all(isinstance(record.get(name), kind) for name, kind in _REQUIRED.items()) else None


def _newer(line: bytes) -> bool:
    try:
        record = json.loads(line)
    except ValueError:
        return False
    return isinstance(record, dict) and isinstance(record.get("version"), int) and record["version"] > VERSION


# -- making records -----------------------------------------------------------------------------------------------------

@functools.lru_cache(maxsize=16)
def device_facts(target: Target) -> dict[str, object]:
    """The device as results name it. CPUs are known by what code is compiled for, as one marketing name stands for many."""
    facts = {"name": target.name, "platform": target.platform, "driver": target.driver, "kind": target.kind,
             "units": target.compute_units}
    return facts | ({"isa": instruction_set(target), "vector": target.vector_width} if target.is_cpu else {})


def instruction_set(target: Target) -> str:
    """The CPU that kernels are compiled for; the driver's version ends with it: ``… linux-gnu-haswell`` or ``…, for haswell``."""
    match = re.search(r"(?:, for |-linux-gnu-|[ -])([a-zA-Z][\w.+]*(?:-avx512)?)$", target.version)
    return match.group(1) if match else ""


@functools.cache
def template_digest(name: str) -> str:
    """A digest of a template's text and of all that it includes."""
    digest, waiting, met = hashlib.sha256(), [f"{name}.cl"], set()
    while waiting:
        part = waiting.pop(0)
        if part not in met:
            met.add(part)
            text = (folder() / part).read_bytes()
            digest.update(text)
            waiting += sorted(name.decode() for name in INCLUDED.findall(text))
    return digest.hexdigest()[:12]


def digests(templates: Iterable[str]) -> dict[str, str]:
    return {name: template_digest(name) for name in dict.fromkeys(templates)}


def make_record(kind: str, problem: Problem, target: Target, candidate: Candidate, templates: Iterable[str],
                default: bool, seconds: float | None, **more) -> dict:
    """A line for the store; ``default`` tells that the candidate is what would be run unmeasured."""
    return {"version": VERSION, "kind": kind, "key": problem.key, "family": problem.family, "problem": problem.description,
            "sizes": problem.sizes, "kin": problem.kin, "kin_sizes": problem.kin_sizes,
            "device": device_facts(target), "lowering": candidate.lowering, "config": candidate.config,
            "lowerings": [lowering.name for lowering in problem.op.lowerings], "templates": digests(templates),
            "default": default, "seconds": seconds, **more}


def current(record: Mapping) -> bool:
    """Whether the templates of a record are still what they were when it was measured."""
    try:
        return all(template_digest(name) == digest for name, digest in record.get("templates", {}).items())
    except OSError:
        return False


# -- where results lie --------------------------------------------------------------------------------------------------

def store_path() -> Path:
    """The file of the user's results."""
    return config.tune_store or config.cache / "tune" / "results.jsonl"


@functools.cache
def open_store(path: Path) -> Store:
    """The store of a file; one per process, so that it is read once."""
    return Store(path)


@functools.cache
def shipped() -> Results:
    """The results that come with clnn."""
    found = Results()
    for path in sorted((Path(__file__).parent / "defaults").glob("*.jsonl")):
        for record in Store(path).results():
            found.add(record)
    return found
