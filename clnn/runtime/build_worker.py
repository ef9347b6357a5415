"""A process that compiles kernels for its parent: ``python -m clnn.runtime.build_worker platform:device``.

It reads requests from its standard input, one line of JSON each, and answers on its standard output with a line of JSON that is
followed by as many bytes as it announces: the built program. It ends when its input does. What the compiler prints goes nowhere.
"""

from __future__ import annotations

import json
import os
import sys

from .devices import devices
from .opencl import cl
from .program import QUIETLY


def main(device_id: str) -> None:
    """Answer requests until there are no more."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)       # a compiler that prints must not disturb the answers
    device = next(device for device in devices() if device.id == device_id)
    context = cl().Context([device.handle])
    queue = cl().CommandQueue(context)
    _answer(answers, {"ready": True})
    for line in sys.stdin.buffer:
        request = json.loads(line)
        try:
            binary = _build(context, queue, request)
        except Exception as error:      # whatever a driver raises is the answer
            _answer(answers, {"error": str(error)})
        else:
            _answer(answers, {"error": "", "bytes": len(binary)}, binary)


def _answer(stream, fields: dict, binary: bytes = b"") -> None:
    stream.write(json.dumps(fields).encode() + b"\n" + binary)
    stream.flush()


def _build(context, queue, request: dict) -> bytes:
    """Compile a program. With ``warm``, run one work-group of its kernel too: drivers for CPUs compile for a work-group's size
    when they first meet it, and keep the result where the parent's driver finds it. Its tensors are zero: boards begin so, and
    what memory holds by chance can be a place far away."""
    api = cl()
    program = api.Program(context, request["source"]).build(options=QUIETLY)
    kernel = api.Kernel(program, request["name"])
    if not request["warm"]:
        return program.get_info(api.program_info.BINARIES)[0]
    sizes = [max(nbytes, 4) for nbytes in request["arguments"]]
    buffers = [api.Buffer(context, api.mem_flags.READ_WRITE, nbytes) for nbytes in sizes]
    for buffer, nbytes in zip(buffers, sizes, strict=True):
        api.enqueue_fill_buffer(queue, buffer, b"\0", 0, nbytes)
    kernel.set_args(*buffers)
    api.enqueue_nd_range_kernel(queue, kernel, tuple(request["local"]), tuple(request["local"]))
    queue.finish()
    return b""


if __name__ == "__main__":
    main(sys.argv[1])
