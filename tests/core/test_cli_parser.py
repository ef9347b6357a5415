"""The command line as text: help, suggestions, values, errors; no device is needed."""

from __future__ import annotations

import argparse
import subprocess
import sys

import pytest

from clnn.cli import entry, main
from clnn.cli.parser import extents, fraction, nearest, number
from clnn.config import config
from clnn.errors import ArgumentError, DeviceError
from clnn.version import __version__


def usage_error(capsys, *arguments: str) -> str:
    """What a wrong command line prints."""
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    return capsys.readouterr().err


def commands() -> dict[str, argparse.ArgumentParser]:
    parser = entry.make_parser()
    return next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction)).choices


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"clnn {__version__}\n"


def test_without_command_the_help_is_shown(capsys):
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in commands())


def test_commands():
    assert list(commands()) == ["devices", "train", "evaluate", "predict", "explain", "show", "profile", "tune", "bench"]


@pytest.mark.parametrize("name", list(commands()))
def test_every_option_has_help_text(name):
    parser = commands()[name]
    assert parser.description
    assert [action.dest for action in parser._actions if not action.help] == []


@pytest.mark.parametrize("name", [name for name in commands() if name != "devices"])
def test_device_can_be_named_wherever_one_is_used(name):
    assert "--device" in commands()[name]._option_string_actions


@pytest.mark.parametrize("name", list(commands()))
def test_help_is_printed(name, capsys):
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert stop.value.code == 0
    assert f"usage: clnn {name}" in capsys.readouterr().out


@pytest.mark.parametrize(("arguments", "expected"), [
    (["trian"], "did you mean 'train'?"),
    (["profil", "lenet5"], "did you mean 'profile'?"),
    (["xyz"], "There are devices, train"),
    (["train", "--model", "lenet5", "--data", "digits", "--optimizer", "adm"], "did you mean 'adam'?"),
    (["train", "--model", "lenet5", "--data", "digits", "--batchsize", "3"], "did you mean --batch-size?"),
    (["train", "--model", "lenet5", "--data", "digits", "--epochs", "0"], "0 is not a whole number at least 1"),
    (["train", "--model", "lenet5", "--data", "digits", "--lr", "fast"], "'fast' is not a number"),
    (["train", "--model", "lenet5"], "required: --data"),
    (["explain", "lenet5", "--input", "1,a"], "is not a shape"),
])
def test_mistakes_are_explained(capsys, arguments, expected):
    assert expected in usage_error(capsys, *arguments)


def test_a_wrong_option_shows_the_usage_of_its_command(capsys):
    assert "usage: clnn explain" in usage_error(capsys, "explain", "lenet5", "--infer-ence")


def test_values():
    assert extents("1,28,28") == extents("1x28x28") == (1, 28, 28)
    assert number(0)("0.5") == 0.5
    assert fraction("0.25") == 0.25
    for wrong in ("1", "-0.1", "x"):
        with pytest.raises(argparse.ArgumentTypeError):
            fraction(wrong)
    with pytest.raises(argparse.ArgumentTypeError, match="from 0 to 1"):
        number(0, 1)("2")
    for wrong in ("", "0,3", "a"):
        with pytest.raises(argparse.ArgumentTypeError):
            extents(wrong)


def test_nearest():
    assert nearest("lenet", ["lenet5", "mlp"]) == "lenet5"
    assert nearest("zzz", ["lenet5", "mlp"]) is None


# -- errors -------------------------------------------------------------------------------------------------------------

def raising(monkeypatch, error: BaseException) -> None:
    """Let `clnn devices` fail."""
    def run(given):
        raise error
    monkeypatch.setattr(entry.devices, "run", run)


def test_errors_are_printed_as_their_text(monkeypatch, capsys):
    raising(monkeypatch, ArgumentError("is wrong", where="here", got=3, expected="4 [bold]", hint="think"))
    assert main(["devices"]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "here: is wrong\n  got:      3\n  expected: 4 [bold]\n  try:      think\n"


def test_long_errors_are_not_wrapped(monkeypatch, capsys):
    raising(monkeypatch, ArgumentError("long " * 60 + "end"))
    assert main(["devices"]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_debugging_shows_where_the_error_was_raised(monkeypatch, capsys):
    raising(monkeypatch, ArgumentError("is wrong"))
    with config.override(debug=1):
        assert main(["devices"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_an_unreadable_debug_level_is_no_second_error(monkeypatch, capsys):
    monkeypatch.setenv("CLNN_DEBUG", "much")
    raising(monkeypatch, ArgumentError("is wrong"))
    assert main(["devices"]) == 1
    assert capsys.readouterr().err == "is wrong\n"


def test_interruption_has_its_own_status(monkeypatch, capsys):
    raising(monkeypatch, KeyboardInterrupt())
    assert main(["devices"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_devices_without_opencl(monkeypatch, capsys):
    def none():
        raise DeviceError("no OpenCL platform was found", hint="install an OpenCL driver: pip install 'pyopencl[pocl]'")
    monkeypatch.setattr("clnn.runtime.devices", none)
    assert main(["devices"]) == 1
    printed = capsys.readouterr().err
    assert "no OpenCL platform was found" in printed
    assert "pip install" in printed


@pytest.mark.parametrize(("arguments", "expected"), [
    (["explain", "lenet"], "did you mean 'lenet5'?"),
    (["train", "--model", "lenet5", "--data", "mnits"], "did you mean 'mnist'?"),
    (["evaluate", "nothing.safetensors", "--data", "digits"], "there is no such model file"),
    (["predict", "lenet5", "a.png"], "there is no such model file"),
    (["explain", "lenet5", "--data", "mnist", "--input", "1,28,28"], "given twice"),
    (["explain", "lenet5", "--hidden", "3"], "does not take these options"),
])
def test_wrong_names_and_options(capsys, arguments, expected):
    assert main(arguments) == 1
    assert expected in capsys.readouterr().err


def test_bench_runs_the_checkouts_own(capfd):
    assert main(["bench", "gemm", "--rounds", "many"]) == 2
    assert "argument --rounds: invalid int value: 'many'" in capfd.readouterr().err


def test_bench_without_a_checkout(monkeypatch, tmp_path, capsys):
    from clnn.cli import bench
    monkeypatch.setattr(bench, "__file__", str(tmp_path / "clnn" / "cli" / "bench.py"))
    assert main(["bench", "gemm"]) == 1
    printed = capsys.readouterr().err
    assert "the benchmarks are not installed with clnn" in printed
    assert "clone the repository" in printed


def test_importing_is_quick():
    """Nothing heavy is imported before a command runs."""
    heavy = ["pyopencl", "matplotlib", "rich.table", "PIL", "sklearn", "clnn.train", "clnn.data"]
    code = f"import sys, clnn.cli; clnn.cli.entry.make_parser(); print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
