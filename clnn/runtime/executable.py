"""A plan bound to a device: buffers allocated, arguments set; run() is a bare loop of enqueues."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from ..codegen.joined import Joined
from ..codegen.kernel import KernelSpec
from ..config import config
from ..errors import DeviceError, DeviceMemoryError, ShapeError
from ..ir import Value, Variable
from ..plan import Join, Location, Plan
from .enqueue import launcher, of_pyopencl, status_name
from .opencl import cl
from .program import KernelBuildError, rendered, sizes
from .progress import BuildLine
from .session import Session


class _Bound(NamedTuple):
    """A kernel with its arguments, ready to be enqueued."""

    name: str
    kernel: object
    buffers: list
    enqueue: Callable[[], int]


class Executable:
    """Runs one plan on one device.

    Raises:
        DeviceMemoryError: if the device cannot hold the plan.
        KernelBuildError: if the compiler refuses a kernel.
    """

    def __init__(self, plan: Plan, session: Session):
        self.plan, self.session = plan, session
        peak, there = plan.peak_bytes, session.target.global_memory
        if peak > there:
            raise DeviceMemoryError(
                "the plan does not fit on the device",
                where=session.target.name,
                got=f"{peak / 2**20:.0f} MiB",
                expected=f"at most {there / 2**20:.0f} MiB",
                hint="lower the batch size or the image size",
            )
        self._staging: dict[str, list] = {}
        with ThreadPoolExecutor(1) as aside:    # memory takes long to come where it is cleared first, and so do kernels
            allocated = aside.submit(self._allocate)
            joins = self._build()
            allocated.result()
        self._bound: dict[int, _Bound] = {}
        #: what a run enqueues: launches, and joins in the place of theirs, by the number of the first launch
        self._run: dict[int, _Bound] = {}
        number = 0
        while number < len(plan.launches):
            join = joins.get(number)
            self._run[number] = self._launch(number) if join is None else self._bind(join.kernel, join.arguments)
            number = number + 1 if join is None else join.last
        #: what the first run, or every run, does beside enqueuing
        self._validate, self._report = config.validate, config.debug >= 2
        self._watched = True
        self._seen = -1  # Variable.accesses when the variables were last in step
        self._specs = {value.name: value.spec for value in plan.inputs}

    def _build(self) -> dict[int, Join]:
        """Build what a run enqueues; returns the joins that can be built, by their first launches."""
        launches, joins = self.plan.launches, {join.first: join for join in self.plan.joins}
        inside = {number for join in joins.values() for number in range(join.first, join.last)}
        single = [launch.kernel for number, launch in enumerate(launches) if number not in inside]
        try:
            self.session.programs.build([*(join.kernel for join in joins.values()), *single])
        except KernelBuildError:
            if not joins:
                raise
            joins = {}
            self.session.programs.build([launch.kernel for launch in launches])
        return joins

    def _bind(self, kernel: KernelSpec | Joined, arguments: tuple[Location, ...]) -> _Bound:
        session = self.session
        made, buffers = session.programs.kernel(kernel), [self.buffer(location) for location in arguments]
        made.set_args(*buffers)
        return _Bound(rendered(kernel)[0], made, buffers, launcher(session.queue, made, *sizes(kernel)))

    def _launch(self, number: int) -> _Bound:
        """A single launch, which may be part of a join and so not built yet."""
        if number not in self._bound:
            planned = self.plan.launches[number]
            self.session.programs.build([planned.kernel])
            self._bound[number] = self._bind(planned.kernel, planned.arguments)
        return self._bound[number]

    @property
    def kernels(self) -> list[tuple]:
        """Kernel and buffers of each launch."""
        self.session.programs.build([launch.kernel for launch in self.plan.launches])
        return [self._launch(number)[1:3] for number in range(len(self.plan.launches))]

    def _allocate(self) -> None:
        """Buffers for what lasts as long as this object, or the variable."""
        plan, session = self.plan, self.session
        self._arena = session.allocate(plan.arena_bytes, "temporaries") if plan.arena_bytes and not plan.slots else None
        self._inputs = {value.name: session.allocate(value.spec.nbytes, f"input {value.name}") for value in plan.inputs}
        self._constants = {}
        for array in plan.constants:
            self._constants[id(array)] = buffer = session.allocate(array.nbytes, "constant")
            session.upload(buffer, array)
        self._regions: dict[Location, object] = {}
        for location in dict.fromkeys(location for launch in (*plan.launches, *plan.joins) for location in launch.arguments):
            self.buffer(location)
        session.bring_in_step(plan.variables, [])

    def buffer(self, location: Location):
        """The buffer, or the part of the arena, that a location names."""
        if location.kind == "variable":
            return self.session.buffer_of(location.key)
        if location.kind == "input":
            return self._inputs[location.key]
        if location.kind == "constant":
            return self._constants[location.key]
        if location not in self._regions:
            if location.kind == "slot":
                self._regions[location] = self.session.allocate(location.nbytes, "temporary")
            elif location.kind == "board":
                self._regions[location] = board = self.session.allocate(location.nbytes, "board")
                self.session.upload(board, np.zeros(location.nbytes, np.uint8))
            else:
                self._regions[location] = self._arena.get_sub_region(location.offset, max(location.nbytes, 4))
        return self._regions[location]

    # -- data in and out --------------------------------------------------------------------------------------------

    def _checked(self, name: str, array: np.ndarray) -> np.ndarray:
        spec = self._specs[name]
        array = np.asarray(array)
        if array.shape != spec.shape:
            raise ShapeError(
                "the shape of an input is not the one compiled for",
                where=name,
                got=array.shape,
                expected=spec.shape,
                hint="compile for this shape",
            )
        return spec.to_physical(array)

    def write(self, name: str, array: np.ndarray) -> None:
        """Set an input for the runs that follow."""
        self.session.upload(self._inputs[name], self._checked(name, array))

    def stage(self, name: str, array: np.ndarray) -> None:
        """Like :meth:`write`, but the upload goes through a second queue and overlaps with the run before."""
        flat = self._checked(name, array)
        api, session = cl(), self.session
        if name not in self._staging:
            self._staging[name] = [[session.allocate(flat.nbytes, f"input {name}"), None, None] for _ in range(2)]
        slots = self._staging[name]
        slot = slots[0]
        slots.append(slots.pop(0))
        arrived = api.enqueue_copy(session.transfers, slot[0], flat, is_blocking=False, wait_for=[slot[1]] if slot[1] else None)
        session.transfers.flush()
        slot[1] = api.enqueue_copy(session.queue, self._inputs[name], slot[0], wait_for=[arrived])
        slot[2] = flat  # the host array must live until it was copied

    def read(self, value: Value) -> np.ndarray:
        """The present content of an output, an input or a variable of the plan, logically shaped."""
        if value.kind == "variable":
            return value.source.array.copy()
        spec = value.spec
        flat = np.empty(spec.size, spec.dtype)
        self.session.download(self.buffer(self.plan.locations[value]), flat)
        return spec.from_physical(flat)

    # -- running ----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Enqueue all launches."""
        if self._watched:
            if self._seen != Variable.accesses:
                self.bring_in_step()
            self._run_watched()
            return
        self.run_unwatched()

    def run_unwatched(self) -> None:
        """The same, whatever the configuration wants to see of a run."""
        if self._seen != Variable.accesses:
            self.bring_in_step()
        self._enqueue(self._run)

    @functools.cached_property
    def pyopencl_launches(self) -> list[tuple]:
        """Kernel, global and local size of each launch, for pyopencl's functions."""
        return [(of_pyopencl(kernel), *self.sizes(number)) for number, (kernel, _) in enumerate(self.kernels)]

    def sizes(self, launch: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Global and local size of a launch."""
        return sizes(self.plan.launches[launch].kernel)

    def _run_watched(self) -> None:
        """CLNN_VALIDATE: every run against the references. CLNN_DEBUG=2: the first run with a table of times. Otherwise the first
        run shows how far it is, as drivers may leave the last and longest stage of compiling to the first launch."""
        self._watched = self._validate
        if self._validate:
            from .validate import run_validated

            run_validated(self)
        elif self._report:
            from .profiler import profile

            print(profile(self, repeats=0), file=sys.stderr, flush=True)
        else:
            self._run_first()

    def _run_first(self) -> None:
        programs = self.session.programs
        with BuildLine("optimising", len({bound.name for bound in self._run.values()} - programs.launched)) as line:
            for number, bound in self._run.items():
                self._enqueue({number: bound})
                if bound.name not in programs.launched:
                    self.session.finish()
                    programs.launched.add(bound.name)
                    line.advance()

    def bring_in_step(self) -> None:
        """Send what the host has changed to the device, and claim the variables that a run updates."""
        self.session.bring_in_step(self.plan.variables, self.plan.updated)
        self._seen = Variable.accesses

    def run_range(self, first: int, last: int) -> None:
        """Enqueue launches first … last − 1, each by itself; for looking at values on the way."""
        if self._seen != Variable.accesses:
            self.bring_in_step()
        self._enqueue({number: self._launch(number) for number in range(first, last)})

    def _enqueue(self, launches: dict[int, _Bound]) -> None:
        for number, bound in launches.items():
            if status := bound.enqueue():
                planned = self.plan.launches[number]
                raise DeviceError(f"the device refuses to run {planned.kernel.label}", where=planned.name,
                                  got=status_name(status),
                                  hint="lower the batch size, or choose another lowering by CLNN_LOWERING")
