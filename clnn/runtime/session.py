"""A device in use: its context, queues, programs, and the device copies of variables."""

from __future__ import annotations

import functools
import gc
import weakref
from dataclasses import dataclass

import numpy as np

from ..errors import DeviceMemoryError
from ..ir import Variable
from . import pages
from .devices import Device
from .opencl import cl
from .program import Programs


@dataclass
class _Copy:
    """The device copy of a variable, and the variable's version that it holds. It goes when the variable does."""

    buffer: object
    version: int = -1


class Session:
    """One context and in-order queue per device and process; variables live in it until they are released."""

    def __init__(self, device: Device):
        api = cl()
        self.device = device
        self.target = device.target
        self.context = api.Context([device.handle])
        self.queue = api.CommandQueue(self.context)
        self.transfers = api.CommandQueue(self.context)
        self.programs = Programs(self.context)
        self._copies: dict[int, _Copy] = {}

    def allocate(self, nbytes: int, what: str):
        """A device buffer.

        Raises:
            DeviceMemoryError: what was asked, what there is, what to lower.
        """
        nbytes = max(int(nbytes), 4)
        target = self.target
        limit = min(target.max_allocation, target.global_memory)
        if nbytes > limit:
            raise DeviceMemoryError(
                "the device cannot hold this",
                where=f"{what} on {target.name}",
                got=f"{nbytes / 2**20:.0f} MiB",
                expected=f"at most {limit / 2**20:.0f} MiB in one piece of {target.global_memory / 2**20:.0f} MiB",
                hint="lower the batch size, the image size, or CLNN_WORKSPACE_MB",
            )
        try:
            buffer = self._buffer(nbytes)
            if target.is_cpu:
                pages.advise(self.transfers, buffer, nbytes)
            return buffer
        except (cl().MemoryError, cl().RuntimeError) as error:
            raise DeviceMemoryError(
                "the device is out of memory",
                where=f"{what} on {target.name}",
                got=f"{nbytes / 2**20:.0f} MiB asked",
                expected=f"the device has {target.global_memory / 2**20:.0f} MiB",
                hint="lower the batch size, or free what other programs hold",
            ) from error

    def _buffer(self, nbytes: int):
        """A buffer, if need be after what nobody uses is gone: objects that refer to each other may hold buffers."""
        try:
            return cl().Buffer(self.context, cl().mem_flags.READ_WRITE, nbytes)
        except (cl().MemoryError, cl().RuntimeError):
            gc.collect()
            return cl().Buffer(self.context, cl().mem_flags.READ_WRITE, nbytes)

    def upload(self, buffer, array: np.ndarray, queue=None):
        """Copy a flat host array to the device; the host array may be changed when this returns."""
        return cl().enqueue_copy(queue or self.queue, buffer, np.ascontiguousarray(array), is_blocking=True)

    def download(self, buffer, array: np.ndarray) -> np.ndarray:
        """Copy from the device into ``array``; waits for what was enqueued before."""
        if array.size:
            cl().enqueue_copy(self.queue, array, buffer, is_blocking=True)
        return array

    def buffer_of(self, variable: Variable):
        """The device copy of a variable, made on first use; :meth:`bring_in_step` fills it."""
        if id(variable) not in self._copies:
            self._copies[id(variable)] = _Copy(self.allocate(variable.nbytes, f"variable {variable.name}"))
            weakref.finalize(variable, self._copies.pop, id(variable), None)
        return self._copies[id(variable)].buffer

    def send(self, variables: list[Variable]) -> None:
        """Make device copies of variables that a run will need, ahead of it, where there is room for all of them."""
        if sum(variable.nbytes for variable in variables) <= self.target.global_memory:
            for variable in variables:
                self.buffer_of(variable)
            self.bring_in_step(variables, [])

    def bring_in_step(self, read: list[Variable], updated: list[Variable]) -> None:
        """Before a run: send what the host or another device has changed, and note which variables the run makes newer here."""
        sent = []       # waited for together: one by one, a thread beside Python's others would wait for its turn after each
        for variable in read:
            if variable.holder not in (None, self):
                _ = variable.array  # another device is ahead: fetch from it
            copy = self._copies[id(variable)]
            if copy.version != variable.version:
                if variable.nbytes:
                    sent.append(cl().enqueue_copy(self.queue, copy.buffer, variable.array, is_blocking=False))
                copy.version = variable.version
        if sent:
            cl().wait_for_events(sent)
        for variable in updated:
            if variable.holder is not self:
                variable.holder = self
                variable.touch()
                self._copies[id(variable)].version = variable.version

    def begin(self) -> None:
        """Values on a device are there."""

    def fetch(self, variable: Variable, array: np.ndarray) -> None:
        """Copy the device's values of a variable into ``array``; variables call it when they are read."""
        self.download(self._copies[id(variable)].buffer, array)

    def pull(self, variable: Variable) -> np.ndarray:
        """The present values of a variable; the same as ``variable.array``."""
        return variable.array

    def release(self, variables) -> None:
        """Free the device copies of these variables; values that only the device has are fetched first."""
        for variable in variables:
            if variable.holder is self:
                _ = variable.array
            self._copies.pop(id(variable), None)

    def finish(self) -> None:
        """Wait until the device has done all it was given."""
        self.queue.finish()


@functools.cache
def session(device: Device) -> Session:
    """The session of a device; one per process."""
    return Session(device)
