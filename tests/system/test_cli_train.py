"""``clnn train``, ``evaluate`` and ``predict`` on a device."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from clnn import models
from clnn.cli import main
from clnn.data import digits
from clnn.train import Trainer

CLASSES = [str(digit) for digit in range(10)]


@pytest.fixture(scope="module")
def trained(device, tmp_path_factory):
    """The folder of a small network, trained for a moment on the digits."""
    folder = tmp_path_factory.mktemp("run")
    assert main(["train", "--model", "mlp", "--hidden", "32", "--data", "digits", "--epochs", "8", "--device", device.id,
                 "--out", str(folder)]) == 0
    return folder


@pytest.fixture(autouse=True)
def needs_device(device, monkeypatch):
    monkeypatch.setenv("CLNN_DEVICE", device.id)


@pytest.fixture
def pictures(tmp_path):
    """Image files of the first test digits, each 20×20; returns paths and labels."""
    test = digits("test")
    for number, image in enumerate(test.images[:6]):
        Image.fromarray(image[0]).resize((20, 20)).convert("RGB").save(tmp_path / f"{number}.png")
    return [str(tmp_path / f"{number}.png") for number in range(6)], [CLASSES[label] for label in test.labels[:6]]


def test_train_leaves_model_curves_and_history(trained):
    assert {"model.safetensors", "curves.png", "history.json", "checkpoint.safetensors"} == set(os.listdir(trained))
    history = json.loads((trained / "history.json").read_text())
    assert len(history["epochs"]) == 8
    assert history["epochs"][-1]["validation_accuracy"] > 0.85
    with Image.open(trained / "curves.png") as image:
        assert image.width > 500


def test_train_says_what_it_does(capfd, tmp_path, device):
    assert main(["train", "--model", "mlp", "--hidden", "8", "--data", "digits", "--epochs", "1", "--limit", "100",
                 "--optimizer", "sgd", "--out", str(tmp_path / "out")]) == 0
    shown = capfd.readouterr().out
    for expected in (device.name, "90 images to train with, 10 to watch it, 359 to test; 1x8x8, 10 classes",
                     "mlp: 610 parameters", "sgd, lr 0.05 one-cycle, momentum 0.9", "epoch 1/1", "accuracy",
                     "model.safetensors", "curves.png", "launches"):
        assert expected in shown


def test_train_on_a_folder_of_images(tmp_path, capfd):
    rng = np.random.default_rng(0)
    for number, name in enumerate(("dark", "light")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(20):
            pixels = rng.integers(0, 60, (9, 12, 3)) + 180 * number
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "photos" / name / f"{i}.png")
    out = tmp_path / "out"
    assert main(["train", "--model", "mlp", "--hidden", "8", "--size", "8", "--data", str(tmp_path / "photos"),
                 "--batch-size", "8", "--lr", "0.01", "--out", str(out)]) == 0
    assert "3x8x8, 2 classes" in capfd.readouterr().out
    picture = tmp_path / "photos" / "light" / "3.png"
    assert main(["predict", str(out / "model.safetensors"), str(picture), "--json"]) == 0
    assert json.loads(capfd.readouterr().out)[0]["predictions"][0]["class"] == "light"
    assert main(["evaluate", str(out / "model.safetensors"), "--data", "digits"]) == 1
    assert "do not fit the model" in capfd.readouterr().err


def test_resume_goes_on(tmp_path, capfd):
    common = ["train", "--model", "mlp", "--hidden", "8", "--data", "digits", "--limit", "200", "--schedule", "constant",
              "--out", str(tmp_path)]
    assert main([*common, "--resume"]) == 1
    assert "no checkpoint to resume from" in capfd.readouterr().err
    assert main([*common, "--epochs", "2"]) == 0
    assert main([*common, "--epochs", "3", "--resume"]) == 0
    assert len(json.loads((tmp_path / "history.json").read_text())["epochs"]) == 3


def test_evaluate(trained, capfd):
    assert main(["evaluate", str(trained / "model.safetensors"), "--data", "digits"]) == 0
    shown = capfd.readouterr().out
    assert "loss" in shown and "of 359)" in shown
    assert main(["evaluate", str(trained / "model.safetensors"), "--data", "digits", "--detailed", "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert found["count"] == 359 == sum(entry["count"] for entry in found["classes"])
    right = sum(entry["count"] * entry["accuracy"] for entry in found["classes"])
    assert right / 359 == pytest.approx(found["accuracy"])
    assert main(["evaluate", str(trained / "model.safetensors"), "--data", "digits", "--detailed"]) == 0
    assert "taken for" in capfd.readouterr().out


def test_predict(trained, pictures, capfd):
    files, labels = pictures
    assert main(["predict", str(trained / "model.safetensors"), *files, "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert [entry["file"] for entry in found] == files
    assert all(len(entry["predictions"]) == 5 for entry in found)
    assert sum(entry["predictions"][0]["class"] == label for entry, label in zip(found, labels, strict=True)) >= 4
    assert main(["predict", str(trained / "model.safetensors"), files[0], "--top", "2"]) == 0
    assert len(capfd.readouterr().out.splitlines()) == 3


def test_predict_inverted(trained, tmp_path, capfd):
    image = digits("test").images[0]
    Image.fromarray(image[0]).save(tmp_path / "light.png")
    Image.fromarray(255 - image[0]).save(tmp_path / "dark.png")
    model = str(trained / "model.safetensors")
    assert main(["predict", model, str(tmp_path / "light.png"), "--json"]) == 0
    light = json.loads(capfd.readouterr().out)[0]["predictions"]
    assert main(["predict", model, str(tmp_path / "dark.png"), "--invert", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)[0]["predictions"] == light


def test_predict_goes_on_past_unreadable_files(trained, pictures, tmp_path, capfd):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG nothing")
    files = [pictures[0][0], str(tmp_path / "broken.png"), str(tmp_path / "absent.png"), pictures[0][1]]
    assert main(["predict", str(trained / "model.safetensors"), *files]) == 1
    seen = capfd.readouterr()
    assert files[0] in seen.out and files[3] in seen.out
    assert "broken.png" in seen.err and "absent.png" in seen.err
    assert main(["predict", str(trained / "model.safetensors"), *files, "--json"]) == 1
    assert ["error" in entry for entry in json.loads(capfd.readouterr().out)] == [False, True, True, False]


def test_a_saved_model_can_be_looked_at(trained, capfd):
    model = str(trained / "model.safetensors")
    assert main(["explain", model, "--inference", "--batch-size", "2"]) == 0
    assert "2 images of 1x8x8" in capfd.readouterr().out
    assert main(["explain", model, "--classes", "3"]) == 1
    assert "--classes" in capfd.readouterr().err


def test_a_damaged_model_file(trained, tmp_path, capfd):
    whole = (trained / "model.safetensors").read_bytes()
    (tmp_path / "half.safetensors").write_bytes(whole[:len(whole) // 2])
    assert main(["evaluate", str(tmp_path / "half.safetensors"), "--data", "digits"]) == 1
    assert "half.safetensors" in capfd.readouterr().err


def test_a_model_that_was_never_trained(tmp_path, capfd):
    Trainer(models.mlp(4, 2)).save(tmp_path / "raw.safetensors")
    assert main(["evaluate", str(tmp_path / "raw.safetensors"), "--data", "digits"]) == 1
    assert "was trained before it was saved" in capfd.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="signals differ")
def test_interruption(tmp_path):
    """Ctrl-C ends with status 130 and a checkpoint from which --resume goes on."""
    command = [sys.executable, "-m", "clnn", "train", "--model", "mlp", "--data", "digits", "--epochs", "100000",
               "--out", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 240
    while not (tmp_path / "checkpoint.safetensors").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, complaint = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in complaint and "--resume" in complaint and "Traceback" not in complaint
    assert json.loads((tmp_path / "history.json").read_text())["interrupted"]
