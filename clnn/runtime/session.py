"""A device in use: its context, queues, programs, and the device copies of variables."""

from __future__ import annotations

import functools

import numpy as np

from ..errors import DeviceMemoryError
from ..ir import Variable
from .devices import Device
from .opencl import cl
from .program import Programs


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
        self._variables: dict[int, tuple[Variable, object]] = {}
        self._allocated = 0

    def allocate(self, nbytes: int, what: str):
        """A device buffer.

        Raises:
            DeviceMemoryError: what was asked, what there is, what to lower.
        """
        nbytes = max(int(nbytes), 4)
        target = self.target
        limit = min(target.max_allocation, target.global_memory)
        if nbytes > limit:
            raise DeviceMemoryError("the device cannot hold this", where=f"{what} on {target.name}", got=f"{nbytes / 2**20:.0f} MiB",
                                    expected=f"at most {limit / 2**20:.0f} MiB in one piece of {target.global_memory / 2**20:.0f} MiB",
                                    hint="lower the batch size, the image size, or CLNN_WORKSPACE_MB")
        try:
            return cl().Buffer(self.context, cl().mem_flags.READ_WRITE, nbytes)
        except (cl().MemoryError, cl().RuntimeError) as error:
            raise DeviceMemoryError("the device is out of memory", where=f"{what} on {target.name}", got=f"{nbytes / 2**20:.0f} MiB asked",
                                    expected=f"the device has {target.global_memory / 2**20:.0f} MiB",
                                    hint="lower the batch size, or free what other programs hold") from error

    def upload(self, buffer, array: np.ndarray, queue=None):
        """Copy a flat host array to the device; the host array may be changed when this returns."""
        return cl().enqueue_copy(queue or self.queue, buffer, np.ascontiguousarray(array), is_blocking=True)

    def download(self, buffer, array: np.ndarray) -> np.ndarray:
        """Copy from the device into ``array``; waits for what was enqueued before."""
        if array.size:
            cl().enqueue_copy(self.queue, array, buffer, is_blocking=True)
        return array

    def buffer_of(self, variable: Variable):
        """The device copy of a variable, made and filled on first use."""
        found = self._variables.get(id(variable))
        if found is None:
            buffer = self.allocate(variable.array.nbytes, f"variable {variable.name}")
            if variable.array.size:
                self.upload(buffer, variable.array)
            found = self._variables[id(variable)] = (variable, buffer)
        return found[1]

    def push(self, variable: Variable) -> None:
        """Send the host array to the device copy, if there is one."""
        if id(variable) in self._variables and variable.array.size:
            self.upload(self._variables[id(variable)][1], variable.array)

    def pull(self, variable: Variable) -> np.ndarray:
        """Bring the device copy, if there is one, into the host array."""
        if id(variable) in self._variables:
            self.download(self._variables[id(variable)][1], variable.array)
        return variable.array

    def release(self, variables) -> None:
        """Forget the device copies of these variables; pull first what must survive."""
        for variable in variables:
            self._variables.pop(id(variable), None)

    def finish(self) -> None:
        """Wait until the device has done all it was given."""
        self.queue.finish()


@functools.cache
def session(device: Device) -> Session:
    """The session of a device; one per process."""
    return Session(device)
