"""The CPU that PoCL compiles for, corrected where PoCL's own LLVM names it wrongly.

PoCL asks the LLVM built into it for the name of the CPU. Two things go wrong with the build on PyPI (PoCL 3.0-rc2, LLVM 14):

- A CPU newer than that LLVM is called "generic", a name which its compiler then refuses: every build fails
  (github.com/pocl/pocl/issues/1049).
- Its library of built-in functions is compiled for AVX-512 wherever the CPU has that, but Zen 4 is taken for a Zen 3, without
  AVX-512. Functions for more features than their caller has are never inlined, so that every ``fmax`` is a call: 4 to 8 times
  slower.

The name is a string that PoCL allocates per device and reads at every build. :func:`correct_cpu` finds it and writes a name there
that LLVM knows and the CPU's flags allow. It reads and writes through ``/proc/self/mem``, where a wrong address is an error and
not a crash, and touches nothing unless exactly one pointer in the device leads to the name that the device's version also ends
with.
"""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path

from ..config import config

PLATFORM = "Portable Computing Language"
AFFECTED = re.compile(r"PoCL 3\.0-rc2\b.*LLVM 14\.")
HINT = (
    "this PoCL's LLVM is older than the CPU and its name could not be corrected: set CLNN_POCL_CPU to a name that LLVM knows, "
    "such as x86-64, or install a newer PoCL, such as Debian's pocl-opencl-icd"
)
#: what LLVM 14 calls the CPUs whose flags it cannot be told otherwise, best first
NAMES = (
    ("skylake-avx512", {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "avx2", "fma", "bmi2"}),
    ("haswell", {"avx2", "fma", "bmi2", "f16c"}),
    ("x86-64", {"sse2"}),
)
#: floats in a register of CPUs that may be asked for where the processor has wider ones
WIDTHS = {"haswell": 8, "broadwell": 8, "skylake": 8, "znver1": 8, "znver2": 8, "znver3": 8, "x86-64-v3": 8, "x86-64-v2": 4,
          "x86-64": 4}
LONGEST = 23        # characters that fit where malloc put "generic" or "znver3": its smallest piece holds 24 bytes
STRUCT_BYTES = 2048  # how much of the device's structure is searched


def suitable_name(flags: set[str], wanted: str = "auto") -> str | None:
    """The LLVM name for a CPU with these flags of /proc/cpuinfo; ``wanted`` as CLNN_POCL_CPU says."""
    if wanted == "off":
        return None
    if wanted != "auto":
        return wanted if len(wanted) <= LONGEST else None
    return next((name for name, needed in NAMES if needed <= flags), None)


def needs_correction(current: str, suitable: str | None) -> bool:
    """Whether PoCL's name is refused by its compiler, or has fewer features than its library of built-in functions."""
    if suitable is None or current == suitable:
        return False
    return current == "generic" or (suitable == "skylake-avx512" and current.startswith("znver"))


def correct_cpu(platform, device) -> str | None:
    """Give PoCL's device ``device`` a CPU name that works; returns it, or None where nothing was changed."""
    if platform.name.strip() != PLATFORM or not AFFECTED.search(platform.version):
        return None
    current = re.search(r"(generic|znver\d)\s*$", device.version)
    if current is None:
        return None
    suitable = suitable_name(_flags(), config.pocl_cpu)
    wished = config.pocl_cpu not in ("auto", "off") and suitable != current.group(1)
    if suitable is None or not (wished or needs_correction(current.group(1), suitable)):
        return None
    return suitable if _replace(device.int_ptr, current.group(1), suitable) else None


def vector_width(native: int, corrected: str | None) -> int:
    """Floats in a register of the CPU that is compiled for, which may be narrower than the processor's."""
    return min(native, WIDTHS.get(corrected or "", native))


def _flags() -> set[str]:
    try:
        line = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags"))
    except (OSError, StopIteration):
        return set()
    return set(line.split(":", 1)[1].split())


def _replace(structure: int, old: str, new: str) -> bool:
    """Write ``new`` over the string ``old`` that the structure at this address points to, if exactly one of its pointers does."""
    try:
        memory = os.open("/proc/self/mem", os.O_RDWR)
    except OSError:
        return False
    try:
        addresses = {address for (address,) in struct.iter_unpack("<Q", os.pread(memory, STRUCT_BYTES, structure))}
        if _holding(memory, addresses, new):
            return True  # done before in this process
        places = _holding(memory, addresses, old)
        return len(places) == 1 and os.pwrite(memory, new.encode() + b"\0", places[0]) == len(new) + 1
    except OSError:
        return False
    finally:
        os.close(memory)


def _holding(memory: int, addresses: set[int], text: str) -> list[int]:
    """Those of the addresses at which this string lies."""
    wanted, found = text.encode() + b"\0", []
    for address in addresses:
        try:
            if os.pread(memory, len(wanted), address) == wanted:
                found.append(address)
        except (OSError, OverflowError):
            continue  # no pointer
    return found
