"""What Mako makes of templates is kept between processes, and never taken for a template that it was not made of."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import mako.template
import pytest

from clnn.codegen.templates import Templates
from clnn.config import config

ROOT = Path(__file__).resolve().parents[2]
TEXT = '<%namespace name="lib" file="/lib/part.mako"/><%! KERNEL = "{kernel}" %>${{lib.part(1)}} of {kernel}, ${{missing or "-"}}'
PART = '<%def name="part(n)">part ${{n}} {name}</%def>'


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder with a template that includes another one."""
    (tmp_path / "kernels" / "lib").mkdir(parents=True)
    write(tmp_path / "kernels")
    return tmp_path / "kernels"


def write(folder: Path, kernel: str = "one", part: str = "first") -> None:
    (folder / "one.cl").write_text(TEXT.format(kernel=kernel))
    (folder / "lib" / "part.mako").write_text(PART.format(name=part))


@pytest.fixture
def parsed(monkeypatch) -> list[str]:
    """The templates that Mako has parsed since."""
    found = []
    plain = mako.template.Template.__init__

    def counted(self, *args, **named):
        found.append(named["uri"])
        plain(self, *args, **named)

    monkeypatch.setattr(mako.template.Template, "__init__", counted)
    return found


@pytest.fixture(autouse=True)
def cache(tmp_path):
    with config.override(cache=tmp_path / "cache"):
        yield tmp_path / "cache" / "templates"


def rendered(folder: Path) -> str:
    """What a process that has read nothing yet makes of the template."""
    return Templates(folder).get_template("/one.cl").render_unicode(missing="")


def test_a_template_is_parsed_once_for_all_processes(folder, cache, parsed):
    first = rendered(folder)
    assert parsed == ["/one.cl", "/lib/part.mako"] and len(list(cache.glob("*.py"))) == 2
    assert rendered(folder) == first == "part 1 first of one, -"
    assert Templates(folder).get_template("/one.cl").module.KERNEL == "one"
    assert len(parsed) == 2


def test_what_has_changed_is_parsed_again(folder, parsed):
    rendered(folder)
    times = os.stat(folder / "one.cl")
    write(folder, "two")
    os.utime(folder / "one.cl", ns=(times.st_atime_ns, times.st_mtime_ns))      # as `cp -p` and some checkouts do
    assert rendered(folder) == "part 1 first of two, -"
    write(folder, "two", part="second")
    assert rendered(folder) == "part 1 second of two, -"
    write(folder)
    del parsed[:]
    assert rendered(folder) == "part 1 first of one, -" and not parsed


def test_another_folder_or_mako_finds_nothing(folder, parsed, monkeypatch):
    rendered(folder)
    folder = folder.rename(folder.with_name("others"))
    assert rendered(folder) == "part 1 first of one, -" and len(parsed) == 4
    monkeypatch.setattr(mako, "__version__", "99.0")
    assert rendered(folder) == "part 1 first of one, -" and len(parsed) == 6


@pytest.mark.parametrize("damage", [
    lambda whole: b"", lambda whole: whole[:-1], lambda whole: whole[:40], lambda whole: b"x" * 99,
    lambda whole: whole[:60] + bytes([whole[60] ^ 1]) + whole[61:],
])
def test_a_damaged_file_is_replaced(folder, cache, parsed, damage):
    rendered(folder)
    whole = {file: file.read_bytes() for file in cache.glob("*.py")}
    for file, content in whole.items():
        file.write_bytes(damage(content))
    assert rendered(folder) == "part 1 first of one, -" and len(parsed) == 4
    assert set(cache.glob("*.py")) == set(whole)
    assert rendered(folder) == "part 1 first of one, -" and len(parsed) == 4


def test_damaged_byte_code_is_replaced(folder, cache, parsed, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    rendered(folder)
    compiled = list(cache.glob("__pycache__/*.pyc"))
    assert len(compiled) == 2
    for file in compiled:
        file.write_bytes(file.read_bytes()[:50])
    assert rendered(folder) == "part 1 first of one, -"
    assert rendered(folder) == "part 1 first of one, -" and len(parsed) == 4
    assert all(file.stat().st_size > 50 for file in compiled)


def test_nothing_needs_to_be_written(folder, cache):
    cache.parent.write_text("a file where the folder should be")
    assert rendered(folder) == "part 1 first of one, -"
    cache.parent.unlink()
    cache.mkdir(parents=True)
    rendered(folder)
    for file in list(cache.glob("*.py")):      # as unreadable as a file can be to whoever may read everything
        file.unlink()
        file.mkdir()
    assert rendered(folder) == "part 1 first of one, -"
    assert all(file.is_dir() for file in cache.iterdir()), "a temporary file was left"


def test_undefined_names_are_errors_from_the_cache_too(folder):
    for _ in range(2):
        with pytest.raises(NameError, match="missing"):
            Templates(folder).get_template("/one.cl").render_unicode()


#: prints the text of a kernel; with "kept", Mako must not parse anything for it
PROCESS = """
import sys, mako.lexer
def refuse(*args, **named): raise AssertionError("parsed")
if "kept" in sys.argv: mako.lexer.Lexer.parse = refuse
from clnn.codegen.template import render
from clnn.ops.matmul import Matmul
from clnn.target import GENERIC_CPU
sample = Matmul.samples()[0]
offer = sample.op.lowerings[-1].offer(sample.op, sample.inputs, sample.op.infer(*sample.inputs), GENERIC_CPU)
print(*(line for launch in offer.launches for line in render(launch.kernel)))
"""


def test_a_second_process_renders_the_same_without_parsing(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CLNN_CACHE": str(tmp_path)}

    def text(*how: str) -> str:
        done = subprocess.run([sys.executable, "-c", PROCESS, *how], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    first = text()
    assert "__kernel" in first and text("kept") == first
