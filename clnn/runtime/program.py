"""From rendered text to OpenCL kernels: many kernels to a program, programs built side by side."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from ..codegen.joined import Joined
from ..codegen.kernel import KernelSpec
from ..codegen.template import render
from ..config import config
from ..errors import BuildError
from . import pocl
from .enqueue import make_kernel
from .foresight import Foresight
from .opencl import cl
from .progress import BuildLine

OPTIONS = ["-cl-mad-enable", "-cl-no-signed-zeros"]
#: the same without warnings, which PoCL's compiler counts on the terminal: nobody reads those of generated text
QUIETLY = [*OPTIONS, "-w"]
#: a program costs tens of milliseconds even where the driver has it in its cache; a changed kernel costs a new program
PER_PROGRAM = 32

#: the kernels of one program by name, with their text
Part = dict[str, tuple[KernelSpec | Joined, str]]


def rendered(spec: KernelSpec | Joined) -> tuple[str, str]:
    """The name and the text of a kernel."""
    return spec.text if isinstance(spec, Joined) else render(spec)


class KernelBuildError(BuildError):
    """The compiler refused one kernel; ``spec`` is the one."""

    def __init__(self, spec: KernelSpec | Joined, log: str, source: str):
        self.spec = spec
        super().__init__(
            "the OpenCL compiler refused a generated kernel",
            where=spec.label,
            got=_around(log, source),
            hint="CLNN_DEBUG=4 prints the whole source; CLNN_LOWERING forces another lowering",
        )


def _around(log: str, source: str, margin: int = 3) -> str:
    """The compiler's first complaint with the generated lines around it."""
    lines = source.splitlines()
    log = re.sub(r"\S*/(tempfile|input)\w*\.cl:", "line ", log)
    match = (
        re.search(r"line (\d+):\d+", log)
        or re.search(r":(\d+):\d+: (?:fatal )?error", log)
        or re.search(r"\((\d+)\).*error", log)
    )
    text = [line.strip() for line in log.strip().splitlines() if "error:" in line.lower()][:6] or log.strip().splitlines()[:12]
    if match:
        at = int(match.group(1))
        for number in range(max(1, at - margin), min(len(lines), at + margin) + 1):
            text.append(f"{'>' if number == at else ' '} {number:4d} | {lines[number - 1]}")
    return "\n            ".join(text)


def build_source(context, source: str):
    """A built program; the error carries the compiler's log."""
    try:
        return cl().Program(context, source).build(options=QUIETLY)
    except cl().Error as error:
        hint = pocl.HINT if "unknown target CPU" in str(error) else None
        raise BuildError("the OpenCL compiler refused a program", got=str(error), hint=hint) from error


class Programs:
    """The kernels built so far in one context. A kernel object holds arguments, so every launch gets its own."""

    def __init__(self, context):
        self._context = context
        self._home: dict[str, object] = {}
        self._built: set[KernelSpec | Joined] = set()
        facts = repr([device.version for device in context.devices])
        self._foresight = Foresight(functools.partial(build_source, context), facts)
        #: names of the kernels that have run: drivers may leave the last stage of compiling to the first launch
        self.launched: set[str] = set()

    def build(self, specs: Sequence[KernelSpec | Joined]) -> None:
        """Make sure that all kernels are built.

        Raises:
            KernelBuildError: for the first kernel that the compiler refuses.
        """
        fresh = [spec for spec in dict.fromkeys(specs) if spec not in self._built]
        if not fresh:
            return
        workers = os.cpu_count() or 1
        rounds = -(-len(fresh) // (PER_PROGRAM * workers))  # programs of equal size, so that all workers end together
        size = -(-len(fresh) // (workers * rounds))
        parts = self._parts(fresh, size)
        if len(fresh) <= size:  # no thread of its own: a caller with a time limit must be able to abandon it
            for part in parts:
                self._home |= self._build_part(part)
        else:
            def make(part: Part) -> dict[str, object]:
                made = self._build_part(part)
                line.advance(len(part))
                return made

            with BuildLine("compiling", len(fresh)) as line, ThreadPoolExecutor(workers) as pool:
                for made in pool.map(make, parts):  # which renders one while those before are built
                    self._home |= made
        self._built.update(fresh)

    @contextlib.contextmanager
    def foreseen(self, occasion: str) -> Iterator[None]:
        """Inside the block, what was built on the same occasion before is built ahead, beside what else happens there."""
        self._foresight.begin(occasion)
        try:
            yield
        finally:
            self._foresight.end(occasion)

    def _parts(self, specs: Sequence[KernelSpec | Joined], size: int) -> Iterator[Part]:
        """The kernels that are not built yet, rendered, so many for a program."""
        met, part = set(self._home), {}
        for spec in specs:
            name, text = rendered(spec)
            if name in met:
                continue
            met.add(name)
            part[name] = (spec, text)
            if config.debug >= 4:
                print(f"// {spec.label}\n{text}\n", file=sys.stderr, flush=True)
            if len(part) == size:
                yield part
                part = {}
        if part:
            yield part

    def _build_part(self, part: Part) -> dict[str, object]:
        """The program of each kernel."""
        source = "\n\n".join(text for _, text in part.values())
        try:
            return dict.fromkeys(part, self._foresight.build(source))
        except BuildError:
            for spec, text in part.values():  # which one was it?
                try:
                    build_source(self._context, text)
                except BuildError as error:
                    raise KernelBuildError(spec, str(error), text) from error
            raise

    def has(self, spec: KernelSpec) -> bool:
        """Whether a kernel is built."""
        return render(spec)[0] in self._home

    def load(self, spec: KernelSpec, binary: bytes) -> None:
        """Take a kernel from a binary that the same driver made; where the driver refuses that, build it.

        Raises:
            KernelBuildError: if the compiler refuses the kernel.
        """
        if self.has(spec):
            return
        if binary:
            try:
                self._home[render(spec)[0]] = cl().Program(self._context, self._context.devices, [binary]).build()
                self._built.add(spec)
                return
            except cl().Error:
                pass
        self.build([spec])

    def kernel(self, spec: KernelSpec | Joined):
        """A fresh kernel object."""
        name, _ = rendered(spec)
        return make_kernel(self._home[name], name)


def sizes(kernel: KernelSpec | Joined) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Global and local size of the same length, the global a multiple of the local."""
    local, everything = kernel.local_size, kernel.global_size
    rank = max(len(local), len(everything))
    return everything + (1,) * (rank - len(everything)), local + (1,) * (rank - len(local))
