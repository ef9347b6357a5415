"""Programs that are built ahead: taken for their whole text only, and never missed when a guess is wrong."""

import threading

import pytest

from clnn.config import config
from clnn.errors import BuildError
from clnn.files import Answers
from clnn.runtime.foresight import Foresight


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


def build(foreseeing, occasion, *sources):
    """The programs that a model needs, in one go."""
    foreseeing.begin(occasion)
    made = [foreseeing.build(source) for source in sources]
    foreseeing.end(occasion)
    return made


def test_what_was_built_is_built_ahead_on_the_same_occasion():
    build(foresight()[0], "a model", "one", "two")
    second, compiler = foresight()
    second.begin("a model")
    assert second.build("two") == "program of two" and second.build("one") == "program of one"
    assert sorted(compiler.built) == ["one", "two"]
    assert second.build("one") == "program of one" and len(compiler.built) == 3, "a program is taken once"


@pytest.mark.parametrize("facts, occasion", [("a device", "another model"), ("another device", "a model")])
def test_other_occasions_foresee_nothing(facts, occasion):
    build(foresight()[0], "a model", "one")
    other, compiler = foresight(facts)
    other.begin(occasion)
    other.end(occasion)
    assert not compiler.built


def test_what_is_there_is_not_built_again():
    """A model that is compiled twice in one process has its programs."""
    first, compiler = foresight()
    build(first, "a model", "one")
    build(first, "a model")
    assert compiler.built == ["one"]
    second, compiler = foresight()
    build(second, "a model", "one")
    build(second, "a model")
    assert compiler.built == ["one"]


def test_a_wrong_guess_is_replaced(folder):
    build(foresight()[0], "a model", "one", "two")
    assert build(foresight()[0], "a model", "three") == ["program of three"]
    third, compiler = foresight()
    build(third, "a model", "three")
    assert compiler.built == ["three"]


def test_a_right_guess_is_not_written_again(folder):
    build(foresight()[0], "a model", "one")
    path, = folder.iterdir()
    before = path.stat().st_mtime_ns, path.stat().st_ino
    build(foresight()[0], "a model", "one")
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == before


def test_what_does_not_build_is_an_error_for_whoever_wants_it_and_not_remembered(folder):
    first, _ = foresight()
    first.begin("a model")
    with pytest.raises(BuildError, match="does not build"):
        first.build("broken")
    first.build("one")
    first.end("a model")
    second, compiler = foresight()
    build(second, "a model", "one")
    assert compiler.built == ["one"]


def test_what_does_not_build_ahead_is_an_error_for_whoever_wants_it():
    build(foresight()[0], "a model", "once fine", "one")
    second = Foresight(lambda source: Compiler()(source.replace("once fine", "broken")), "a device")
    second.begin("a model")
    with pytest.raises(BuildError, match="does not build"):
        second.build("once fine")
    assert second.build("one")


def test_nothing_is_remembered_outside_an_occasion(folder):
    first, _ = foresight()
    first.build("one")
    build(first, "a model", "two")
    second, compiler = foresight()
    build(second, "a model", "two")
    assert compiler.built == ["two"]


def test_what_nobody_wanted_is_dropped():
    build(foresight()[0], "a model", *(f"text {i}" for i in range(50)))
    entered, leave, built = threading.Event(), threading.Event(), []

    def slow(source):
        entered.set()
        leave.wait(10)
        built.append(source)

    second = Foresight(slow, "a device")
    second.begin("a model")
    assert entered.wait(10)
    second.end("a model")
    leave.set()
    second.build("text 49")
    assert built.count("text 49") == 1 and len(built) < 50


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x78\x9c\x03\x00\x00\x00\x00\x01"])
def test_a_damaged_file_foresees_nothing(folder, content):
    build(foresight()[0], "a model", "one")
    path, = folder.iterdir()
    path.write_bytes(content)
    second, compiler = foresight()
    second.begin("a model")
    assert not compiler.built
    second.build("one")
    second.end("a model")
    third, compiler = foresight()
    third.begin("a model")
    assert third.build("one") and compiler.built == ["one"]


def test_a_folder_that_cannot_be_written(folder):
    folder.write_text("in the way")
    first, _ = foresight()
    assert build(first, "a model", "one") == build(first, "a model", "one") == ["program of one"]


def test_the_oldest_files_go(folder):
    first, _ = foresight()
    for i in range(Answers.MOST + 5):
        build(first, f"model {i}", "one")
    assert len(list(folder.iterdir())) == Answers.MOST
