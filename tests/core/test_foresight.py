"""Programs that are built ahead: taken for their whole text only, and never missed when a guess is wrong."""

import threading

import pytest

from clnn.config import config
from clnn.errors import BuildError
from clnn.runtime.foresight import KEPT, Foresight


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Where texts are remembered."""
    monkeypatch.setenv("CLNN_CACHE", str(tmp_path))
    assert config.cache == tmp_path
    return tmp_path / "programs"


class Compiler:
    """Builds texts, all but those that say that they are broken, and notes which."""

    def __init__(self):
        self.built: list[str] = []

    def __call__(self, source: str) -> str:
        self.built.append(source)
        if "broken" in source:
            raise BuildError("does not build")
        return f"program of {source}"


def foresight(facts="a device"):
    compiler = Compiler()
    return Foresight(compiler, facts), compiler


def test_what_was_built_is_built_ahead_on_the_same_occasion():
    first, _ = foresight()
    first.begin("a model")
    assert first.take("one") is None
    first.end("a model", ["one", "two"])
    second, compiler = foresight()
    second.begin("a model")
    assert second.take("two") == "program of two" and second.take("one") == "program of one"
    assert second.take("one") is None, "a program is taken once"
    assert sorted(compiler.built) == ["one", "two"]


@pytest.mark.parametrize("facts, occasion", [("a device", "another model"), ("another device", "a model")])
def test_other_occasions_foresee_nothing(facts, occasion):
    foresight()[0].end("a model", ["one"])
    other, compiler = foresight(facts)
    other.begin(occasion)
    assert other.take("one") is None and not compiler.built


def test_what_is_there_is_not_built_again():
    """A model that is compiled twice in one process has its programs."""
    first, compiler = foresight()
    first.begin("a model")
    first.take("one")
    first.end("a model", ["one"])
    first.begin("a model")
    first.end("a model", [])
    assert not compiler.built
    second, compiler = foresight()
    second.begin("a model")
    assert second.take("one")
    second.end("a model", ["one"])
    second.begin("a model")
    second.end("a model", [])
    assert compiler.built == ["one"]


def test_a_wrong_guess_is_replaced(folder):
    foresight()[0].end("a model", ["one", "two"])
    second, _ = foresight()
    second.begin("a model")
    assert second.take("three") is None
    second.end("a model", ["three"])
    third, compiler = foresight()
    third.begin("a model")
    assert third.take("three") and compiler.built == ["three"]


def test_a_right_guess_is_not_written_again(folder):
    foresight()[0].end("a model", ["one"])
    path, = folder.iterdir()
    before = path.stat().st_mtime_ns, path.stat().st_ino
    second, _ = foresight()
    second.begin("a model")
    second.end("a model", ["one"])
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == before


def test_what_does_not_build_ahead_is_left_to_whoever_wants_it():
    foresight()[0].end("a model", ["broken", "one"])
    second, _ = foresight()
    second.begin("a model")
    assert second.take("broken") is None and second.take("one")


def test_what_nobody_took_is_dropped():
    foresight()[0].end("a model", [f"text {i}" for i in range(50)])
    entered, leave, built = threading.Event(), threading.Event(), []

    def slow(source):
        entered.set()
        leave.wait(10)
        built.append(source)

    second = Foresight(slow, "a device")
    second.begin("a model")
    assert entered.wait(10)
    second.end("a model", [])
    leave.set()
    assert second.take("text 49") is None and len(built) < 50


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x78\x9c\x03\x00\x00\x00\x00\x01"])
def test_a_damaged_file_foresees_nothing(folder, content):
    foresight()[0].end("a model", ["one"])
    path, = folder.iterdir()
    path.write_bytes(content)
    second, compiler = foresight()
    second.begin("a model")
    second.end("a model", ["one"])
    assert not compiler.built
    third, compiler = foresight()
    third.begin("a model")
    assert third.take("one")


def test_a_folder_that_cannot_be_written(folder):
    folder.write_text("in the way")
    first, compiler = foresight()
    first.begin("a model")
    first.end("a model", ["one"])
    first.begin("a model")
    assert first.take("one") is None and not compiler.built


def test_the_oldest_files_go(folder):
    first, _ = foresight()
    for i in range(KEPT + 5):
        first.begin(f"model {i}")
        first.end(f"model {i}", ["one"])
    assert len(list(folder.iterdir())) == KEPT
