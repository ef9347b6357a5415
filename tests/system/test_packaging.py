"""What is built from the sources holds every module and every kernel template, and finds them where it is installed."""

from __future__ import annotations

import configparser
import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("clnn", "kernels", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")
TEMPLATES = sorted(path.relative_to(ROOT / "kernels").as_posix() for path in (ROOT / "kernels").rglob("*")
                   if path.suffix in (".cl", ".mako", ".md"))
FIND = ("import sys, clnn\n"
        "from clnn.codegen.template import declaration, folder, template_names\n"
        "assert all(declaration(name).summary for name in template_names())\n"
        "print(clnn.__file__, folder(), len(template_names()), sep='\\n')")
NUMBER = sum(name.endswith(".cl") for name in TEMPLATES)


def hook(call: str, where: Path) -> Path:
    """The file that a hook of the build backend makes in the folder ``dist``, without a network."""
    code = f"import sys; from setuptools import build_meta; print('made', build_meta.{call})"
    done = subprocess.run([sys.executable, "-c", code], cwd=where, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return where / "dist" / done.stdout.strip().splitlines()[-1].removeprefix("made ")


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> Path:
    """A copy of what is needed to build, so that nothing is written into the checkout."""
    if importlib.util.find_spec("setuptools") is None:
        pytest.skip("setuptools is not installed, so nothing can be built offline")
    version = tuple(int(part) for part in __import__("setuptools").__version__.split(".")[:2])
    if version < (70, 1) and importlib.util.find_spec("wheel") is None:
        pytest.skip(f"setuptools {version} cannot build wheels by itself, and wheel is not installed")
    where = tmp_path_factory.mktemp("sources")
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, where / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        elif source.exists():
            shutil.copy(source, where / name)
    return where


@pytest.fixture(scope="module")
def wheel(sources) -> Path:
    return hook("build_wheel('dist')", sources)


@pytest.fixture(scope="module")
def sdist(sources) -> Path:
    return hook("build_sdist('dist')", sources)


def find_from(path: Path, cwd: Path) -> list[str]:
    """Where clnn and its templates are found with ``path`` on the search path, and how many templates."""
    done = subprocess.run([sys.executable, "-c", FIND], cwd=cwd, capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(path)})
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")[:3]


def test_package_list_is_that_of_the_folders():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    listed = parser["options"]["packages"].split()
    there = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "clnn").rglob("__init__.py")} | {"clnn.kernels"}
    assert listed == sorted(listed) and set(listed) == there


def test_wheel_holds_everything(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "clnn").rglob("*")
               if path.is_file() and "__pycache__" not in path.parts}
    assert modules <= names, f"missing: {sorted(modules - names)}"
    templates = {f"clnn/kernels/{name}" for name in TEMPLATES} | {"clnn/kernels/__init__.py"}
    assert templates <= names, f"missing: {sorted(templates - names)}"
    others = {name for name in names if not name.startswith("clnn/") and ".dist-info/" not in name}
    assert not others, "a wheel brings the package clnn and nothing else"


def test_wheel_brings_the_command(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith("entry_points.txt")]
        assert "clnn = clnn.cli:main" in archive.read(name).decode()


def test_installed_wheel_finds_its_templates(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    module, folder, count = find_from(tmp_path / "site", tmp_path)
    assert Path(module) == tmp_path / "site" / "clnn" / "__init__.py"
    assert Path(folder) == tmp_path / "site" / "clnn" / "kernels" and int(count) == NUMBER


def test_source_distribution_is_complete(sdist, wheel, tmp_path):
    """The wheel built from it has the same files."""
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.iterdir()
    again = hook("build_wheel('dist')", unpacked)
    assert sorted(zipfile.ZipFile(again).namelist()) == sorted(zipfile.ZipFile(wheel).namelist())


def test_plain_checkout_finds_its_templates(tmp_path):
    module, folder, count = find_from(ROOT, tmp_path)
    assert Path(module) == ROOT / "clnn" / "__init__.py" and Path(folder) == ROOT / "kernels" and int(count) == NUMBER


def test_editable_install_maps_the_templates(sources):
    """The wheel of an editable install has a finder that knows both folders."""
    made = hook("build_editable('dist')", sources)
    with zipfile.ZipFile(made) as archive:
        finder = "".join(archive.read(name).decode() for name in archive.namelist() if "finder" in name)
    assert str(sources / "clnn") in finder and str(sources / "kernels") in finder
