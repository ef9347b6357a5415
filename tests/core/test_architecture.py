"""The rules of the source tree, read off its syntax trees and texts."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from clnn.config import KNOBS

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "clnn"
FILES = sorted(PACKAGE.rglob("*.py"))
KERNELS = sorted(path for path in (ROOT / "kernels").rglob("*") if path.suffix in (".cl", ".mako", ".md"))

BASE = {"errors", "config", "files", "version"}
IR = BASE | {"target", "ir"}
OPS = IR | {"codegen", "ops"}
GRAPH = OPS | {"autodiff", "passes", "plan"}
RUNTIME = GRAPH | {"runtime"}
TUNE = RUNTIME | {"tune"}
COMPILER = TUNE | {"step", "compiler"}
TRAIN = COMPILER | {"nn", "optim", "models", "data", "train"}
#: what each module or folder of clnn may import from clnn, beside itself
MAY_IMPORT = {
    "errors": set(), "version": set(), "files": set(), "config": {"errors"},
    "target": BASE, "ir": BASE | {"target"}, "codegen": IR, "ops": IR | {"codegen"},
    "autodiff": OPS, "passes": GRAPH, "plan": GRAPH,
    "runtime": GRAPH, "tune": RUNTIME, "step": TUNE, "compiler": COMPILER,
    "nn": OPS, "optim": OPS, "models": OPS | {"nn"}, "onnx": OPS | {"nn"}, "data": {"errors", "config", "files"},
    "train": TRAIN, "cli": TRAIN | {"clnn", "onnx"}, "__main__": {"cli"},
    "__init__": {"ops", "compiler", "errors", "runtime", "train", "version", "config", "data", "models", "nn", "optim", "onnx"},
}
#: outside packages that only these parts may import
ONLY_IN = {"pyopencl": {"runtime"}, "onnx": {"onnx"}, "torch": set(), "torchvision": set(), "tensorflow": set(), "cffi": set()}
NAMES = "nvidia amd intel cuda cudnn cublas ptx geforce radeon rocm rdna qualcomm adreno mali xilinx oneapi"
VENDORS = re.compile(rf"(?<![a-z])({NAMES.replace(' ', '|')})(?![a-z])", re.IGNORECASE)
VENDOR_PLACES = ("clnn/runtime/probes.py", "clnn/tune/defaults/", "kernels/nvidia/", "kernels/amd/", "kernels/intel/")
LONGEST = 400


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def part_of(path: Path) -> str:
    """The module or folder of clnn that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def parts_there() -> set[str]:
    return {part_of(path) for path in FILES} | {"clnn"}


def imports_of(path: Path) -> list[tuple[int, str]]:
    """(line, dotted name) of every import, relative ones resolved; ``from package import name`` yields package.name."""
    package = ["clnn", *path.relative_to(PACKAGE).parts[:-1]]
    found = []
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[:len(package) - node.level + 1] if node.level else []
            base = [*base, *(node.module.split(".") if node.module else [])]
            found += [(node.lineno, ".".join([*base, alias.name])) for alias in node.names]
    return found


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_run_one_way(path):
    own = part_of(path)
    assert own in MAY_IMPORT, f"{own} has no place in the order of imports"
    there, wrong = parts_there(), []
    for line, name in imports_of(path):
        outer, *inner = name.split(".")
        if outer == "clnn":
            # what is no module or folder of clnn is a public name of the package itself
            wanted = inner[0] if inner and inner[0] in there else "clnn"
            if wanted == own or wanted in MAY_IMPORT[own]:
                continue
            wrong.append(f"line {line}: {wanted}")
        elif outer in ONLY_IN and own not in ONLY_IN[outer]:
            wrong.append(f"line {line}: {outer}")
    assert not wrong, f"{name_of(path)} must not import: {'; '.join(wrong)}"


def test_table_of_imports_has_no_cycle():
    def below(part, seen=()):
        assert part not in seen, f"{' imports '.join([*seen, part])}"
        for other in MAY_IMPORT.get(part, ()):
            if other not in (part, "passes", "plan", "autodiff", "clnn"):
                below(other, (*seen, part))
    for part in set(MAY_IMPORT) - {"train", "cli", "compiler", "__init__", "__main__"}:
        below(part)


@pytest.mark.parametrize("path", FILES + KERNELS, ids=name_of)
def test_text_of_a_file(path):
    text, name = path.read_text(), name_of(path)
    lines = text.splitlines()
    assert len(lines) <= LONGEST, f"{name} has {len(lines)} lines, {LONGEST} are allowed"
    if not name.startswith(VENDOR_PLACES):
        found = [f"line {number}: {match.group()}" for number, line in enumerate(lines, 1)
                 for match in VENDORS.finditer(line)]
        assert not found, f"{name} names vendors: {'; '.join(found)}"
    assert not re.search(r"\b(TODO|FIXME|XXX|HACK)\b", text), name
    assert path.stem != "utils" and path.parent.name != "utils", "a module must say what it is for"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_every_module_says_what_it_is(path):
    if path.stat().st_size:
        assert ast.get_docstring(ast.parse(path.read_text())), f"{name_of(path)} has no docstring"


@pytest.mark.parametrize("path", [path for path in KERNELS if path.suffix != ".md"], ids=name_of)
def test_kernels_are_not_a_forest_of_conditions(path):
    text = path.read_text()
    found = [line for line in text.splitlines() if re.match(r"\s*#\s*(if|ifdef|ifndef|elif)\b", line)]
    # a library function that several kernels of one program bring along may guard itself
    guards = [line for line in found
              if (match := re.match(r"\s*#ifndef (CLNN_\w+)", line)) and f"#define {match.group(1)}" in text]
    assert found == guards and (not guards or path.parent.name == "lib"), found


def test_kernels_hold_nothing_but_templates():
    others = [name_of(path) for path in (ROOT / "kernels").rglob("*") if path.is_file() and path not in KERNELS
              and path.name != "__init__.py" and "__pycache__" not in path.parts]
    assert not others
    assert not (ROOT / "kernels" / "__init__.py").read_text().strip()


def test_pickle_is_read_in_one_place_only():
    importers = {name_of(path) for path in FILES for _, name in imports_of(path)
                 if name.split(".")[0] in ("pickle", "cPickle", "dill", "joblib", "shelve", "marshal")}
    assert importers <= {"clnn/data/pickled_batch.py"}


@pytest.mark.parametrize("path", FILES + KERNELS, ids=name_of)
def test_every_variable_is_a_knob(path):
    known = {knob.variable for knob in KNOBS.values()}
    text = path.read_text()
    guards = set(re.findall(r"(?:#\s*define|#\s*ifndef|\bdefine)\s+(CLNN_[A-Z_]+)", text))
    mentioned = set(re.findall(r"\bCLNN_[A-Z][A-Z_]*\b", text)) - guards
    assert mentioned <= known, f"{name_of(path)} mentions {sorted(mentioned - known)}, which clnn.config.KNOBS does not declare"


def test_the_environment_is_read_in_config_only():
    readers = {}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv") and isinstance(node.value, ast.Name) \
                    and node.value.id == "os":
                readers.setdefault(name_of(path), []).append(node.lineno)
    # runtime/opencl.py sets a variable of pyopencl's
    assert set(readers) <= {"clnn/config.py", "clnn/runtime/opencl.py"}, readers
