"""``clnn devices``, ``explain``, ``show`` and ``profile`` on a device."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from clnn.cli import main

SMALL = ["lenet5", "--batch-size", "4"]


@pytest.fixture(autouse=True)
def needs_device(device, monkeypatch):
    monkeypatch.setenv("CLNN_DEVICE", device.id)


def printed(capfd, *arguments: str) -> str:
    """What a command prints; compilers may write to standard error."""
    assert main(arguments) == 0
    return capfd.readouterr().out


def test_devices(capfd, device):
    shown = printed(capfd, "devices")
    assert device.name in shown
    assert f"*  {device.id}" in shown
    found = json.loads(printed(capfd, "devices", "--json"))
    assert [entry["id"] for entry in found if entry["default"]] == [device.id]
    assert all(entry["global_memory"] > 0 and isinstance(entry["features"], list) for entry in found)


def test_devices_are_listed_though_the_default_is_unknown(capfd, monkeypatch, device):
    monkeypatch.setenv("CLNN_DEVICE", "no such thing")
    assert main(["devices"]) == 0
    seen = capfd.readouterr()
    assert device.name in seen.out
    assert "no such device" in seen.err


def test_an_unknown_device_is_an_error(capfd):
    assert main(["explain", *SMALL, "--device", "no such thing"]) == 1
    assert "no such device" in capfd.readouterr().err


def test_explain_a_training_step(capfd):
    shown = printed(capfd, "explain", *SMALL)
    for expected in ("61,706 parameters", "a training step", "input @x: float32[4,1,28,28]", "lowerings", "launches",
                     "backward Mflop", "peak", "they sum up to", "update @features.0.weight"):
        assert expected in shown
    cost = shown.split("cost by layer")[1].split("memory")[0].splitlines()
    layers = [line.split()[0] for line in cost[2:] if line.strip()]
    assert layers == ["features.0", "features.2", "features.3", "features.5", "classifier.0", "classifier.2", "classifier.4",
                      "-", "all"]


def test_explain_inference(capfd):
    shown = printed(capfd, "explain", "mlp", "--hidden", "12,7", "--activation", "tanh", "--input", "3,4,5",
                    "--classes", "6", "--inference")
    assert "inference, 64 images of 3x4x5" in shown
    assert "float32[12,60]" in shown and "float32[6,7]" in shown
    assert "tanh" in shown and "backward" not in shown and "update" not in shown


def test_running_statistics_belong_to_the_forward_pass(capfd):
    shown = printed(capfd, "show", "resnet18", "bn1", "--data", "digits", "--batch-size", "2", "--direction", "forward")
    assert "__kernel" in shown and "backward:" not in shown


def test_show(capfd):
    whole = printed(capfd, "show", *SMALL, "features.0")
    forward = printed(capfd, "show", *SMALL, "features.0", "--direction", "forward")
    backward = printed(capfd, "show", *SMALL, "features.0", "--direction", "backward")
    assert forward + backward == whole
    assert "// features.0 Conv2d, forward: " in forward
    assert "Conv2dWgrad" in backward and "Conv2dWgrad" not in forward
    assert printed(capfd, "show", *SMALL, "features.0", "--inference").count("__kernel") == 1


def test_show_a_group_and_the_loss(capfd):
    assert "features.3 Conv2d" in printed(capfd, "show", *SMALL, "features", "--inference")
    assert "CrossEntropy" in printed(capfd, "show", *SMALL, "-")


@pytest.mark.parametrize(("layer", "expected"), [
    ("feature.3", "did you mean features.3?"),
    ("nonsense!", "features.0, features.1"),
    ("features.1", "no kernel of its own"),
])
def test_show_refuses(capfd, layer, expected):
    assert main(["show", *SMALL, layer]) == 1
    assert expected in capfd.readouterr().err


def test_profile(capfd, tmp_path):
    trace = tmp_path / "trace.json"
    shown = printed(capfd, "profile", *SMALL, "--repeats", "1", "--trace", str(trace))
    assert "features.0 Conv2d" in shown and "GFLOP/s" in shown and "images/s" in shown
    events = json.loads(trace.read_text())["traceEvents"]
    assert {"features.0 Conv2d", "features.0 Conv2dWgrad"} <= {event["name"] for event in events}


def test_profile_as_json(capfd):
    found = json.loads(printed(capfd, "profile", "two_hidden", "--data", "mnist", "--inference", "--repeats", "1", "--json"))
    assert len(found["launches"]) == 3
    assert found["seconds_per_step"] > 0


def test_profile_names_the_file_that_cannot_be_written(capfd, tmp_path):
    assert main(["profile", *SMALL, "--inference", "--trace", str(tmp_path / "none" / "trace.json")]) == 1
    assert "trace.json: cannot be written" in capfd.readouterr().err


def test_the_module_is_the_command():
    """Output into a pipe that is closed early is no error."""
    command = f"{sys.executable} -m clnn explain lenet5 --batch-size 4 | head -n 1"
    found = subprocess.run(command, shell=True, capture_output=True, text=True, env=os.environ, check=True)
    assert found.stdout.startswith("device")
    assert "Traceback" not in found.stderr and "Broken" not in found.stderr
