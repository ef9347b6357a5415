"""Compiling kernels for GPUs that are not there, and reading what the compilers say of registers, scratch and local memory.

``ocloc`` is Intel's offline compiler (Debian: intel-opencl-icd). For AMD it is clang 19 with libclc, the OpenCL library (Debian:
clang-19, libclc-19), with the options that a driver would give it.
"""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from clnn.runtime.program import OPTIONS

STANDARD = "-cl-std=CL1.2"
#: characters of OpenCL C in one call of a compiler: enough to make its start cheap, few enough to keep all cores busy
UNIT = 150_000
#: seconds for a call
LIMIT = 600


@dataclass(frozen=True)
class Usage:
    """What a kernel takes.

    Attributes:
        registers: of a hardware thread on Intel, where a kernel has them all, 128 of 32 bytes; of an item on AMD.
        width: items that run as one, SIMD width or wavefront.
        scratch: bytes of memory per item because registers did not suffice: spilled values and arrays without fixed indices.
        local: bytes of local memory of a work-group.
    """

    registers: int
    width: int
    scratch: int
    local: int


@dataclass(frozen=True)
class Failure:
    """The compiler's complaint."""

    log: str


class Ocloc:
    name = "ocloc"
    package = "intel-opencl-icd"

    def absent(self) -> str | None:
        """Why it cannot be used here, or None."""
        return None if shutil.which("ocloc") else f"there is no ocloc (Debian: {self.package})"

    def version(self) -> str:
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(["ocloc", "query", "OCL_DRIVER_VERSION"], cwd=folder, capture_output=True, check=False)
            found = [path.read_text().strip("\0 \n") for path in Path(folder).iterdir()]
        return found[0] if found else "unknown"

    def command(self, device: str, source: str) -> list[str]:
        return ["ocloc", "compile", "-file", source, "-device", device, "-options", " ".join([STANDARD, *OPTIONS]),
                "-internal_options", "-cl-intel-allow-zebin", "-output", "made", "-output_no_suffix"]

    def compile(self, device: str, source: Path) -> dict[str, Usage] | Failure:
        done = _run(self.command(device, source.name), source.parent)
        made = source.parent / "made"
        if done.returncode or not made.is_file():
            return Failure(done.stdout + done.stderr)
        return _ze_info(_section(made.read_bytes(), ".ze_info").decode())


class Clang:
    name = "clang-19"
    package = "clang-19 libclc-19"
    library = Path("/usr/lib/clc/amdgcn--amdhsa.bc")

    def absent(self) -> str | None:
        """Why it cannot be used here, or None."""
        if not shutil.which(self.name):
            return f"there is no {self.name} (Debian: {self.package})"
        return None if self.library.is_file() else f"there is no {self.library} (Debian: {self.package})"

    def version(self) -> str:
        return subprocess.run([self.name, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]

    def command(self, device: str, source: str) -> list[str]:
        return [self.name, "-x", "cl", STANDARD, *OPTIONS, "-O3", "-target", "amdgcn-amd-amdhsa", f"-mcpu={device}",
                "-nogpulib", "-Xclang", "-finclude-default-header", "-Xclang", "-mlink-builtin-bitcode", "-Xclang",
                str(self.library), "-Wno-linker-warnings", "-S", source, "-o", "made.s"]

    def compile(self, device: str, source: Path) -> dict[str, Usage] | Failure:
        done = _run(self.command(device, source.name), source.parent)
        if done.returncode:
            return Failure(done.stdout + done.stderr)
        return _amd_metadata((source.parent / "made.s").read_text())


COMPILERS = {compiler.name: compiler for compiler in (Ocloc(), Clang())}


def _run(command: list[str], folder: Path) -> subprocess.CompletedProcess:
    try:
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=LIMIT, check=False)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"not done after {LIMIT} s")


# -- reading --------------------------------------------------------------------------------------------------------------

def _section(image: bytes, wanted: str) -> bytes:
    """A section of a 64-bit ELF file."""
    (start,) = struct.unpack_from("<Q", image, 0x28)
    size, count, names = struct.unpack_from("<HHH", image, 0x3A)
    headers = [struct.unpack_from("<IIQQQQ", image, start + number * size) for number in range(count)]
    for name, _, _, _, offset, nbytes in headers:
        at = headers[names][4] + name
        if image[at:image.index(b"\0", at)].decode() == wanted:
            return image[offset:offset + nbytes]
    raise ValueError(f"no section {wanted}")


def _number(text: str, key: str) -> int:
    found = re.search(rf"(?<![\w.]){re.escape(key)}:\s+(\d+)", text)
    return int(found[1]) if found else 0


def _ze_info(text: str) -> dict[str, Usage]:
    """Intel's description of a binary, a YAML of known form. Scratch memory is given per hardware thread."""
    found = {}
    kernels = re.search(r"^kernels:\n((?: .*\n|\n)+)", text, flags=re.M)     # other lists of kernels follow
    for part in re.split(r"^  - name:\s+", kernels[1], flags=re.M)[1:]:
        buffers = re.search(r"^    per_thread_memory_buffers:\n((?:      .*\n)+)", part, flags=re.M)
        width = _number(part, "simd_size")
        scratch = sum(map(int, re.findall(r"\bsize:\s+(\d+)", buffers[1]))) if buffers else 0
        name = part.split(None, 1)[0]
        found[name] = Usage(_number(part, "grf_count"), width, -(-scratch // max(width, 1)), _number(part, "slm_size"))
    return found


def _amd_metadata(assembly: str) -> dict[str, Usage]:
    """The YAML that the assembler text ends with."""
    _, _, text = assembly.partition(".amdgpu_metadata")
    found = {}
    for part in re.split(r"^  - (?=\.a)", text, flags=re.M)[1:]:
        name = re.search(r"^    \.name:\s+(\S+)", part, flags=re.M)[1]
        found[name] = Usage(*(_number(part, key) for key in
                              (".vgpr_count", ".wavefront_size", ".private_segment_fixed_size", ".group_segment_fixed_size")))
    return found


# -- many kernels -----------------------------------------------------------------------------------------------------------

def units(texts: dict[str, str]) -> list[list[str]]:
    """Names of kernels that are compiled together, the longest texts first, as they take longest."""
    made: list[list[str]] = [[]]
    room = UNIT
    for name in sorted(texts, key=lambda name: (-len(texts[name]), name)):
        if made[-1] and len(texts[name]) > room:
            made.append([])
            room = UNIT
        made[-1].append(name)
        room -= len(texts[name])
    return [unit for unit in made if unit]


def compile_all(compiler, device: str, texts: dict[str, str], jobs: int | None = None,
                progress=lambda done: None) -> dict[str, Usage | Failure]:
    """Compile kernels (name → text), many at a time; where that fails, each of them alone."""
    done, lock = 0, threading.Lock()

    def together(names: list[str]) -> dict[str, Usage | Failure]:
        nonlocal done
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "kernels.cl"
            source.write_text("\n\n".join(texts[name] for name in names))
            found = compiler.compile(device, source)
        if isinstance(found, Failure) and len(names) > 1:
            half = len(names) // 2
            return together(names[:half]) | together(names[half:])
        with lock:
            done += len(names)
            progress(done)
        if isinstance(found, Failure):
            return {names[0]: found}
        return {name: found.get(name, Failure("the compiler's output does not hold the kernel")) for name in names}

    results: dict[str, Usage | Failure] = {}
    with ThreadPoolExecutor(jobs or os.cpu_count() or 1) as pool:
        for part in pool.map(together, units(texts)):
            results |= part
    return results
