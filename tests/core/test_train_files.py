"""Histories and checkpoint files, without a device."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from clnn.errors import ArgumentError, DataError, FileError
from clnn.nn import save_state
from clnn.train.checkpoint import FORMAT, clear_leftovers, read_checkpoint, read_position, write_checkpoint
from clnn.train.history import History
from clnn.train.sources import augmentation, check_labels

EPOCH = {"epoch": 1, "loss": 0.5, "accuracy": 0.75, "validation_loss": None, "validation_accuracy": None,
         "images_per_second": 12345.6, "seconds": 1.25}
POINT = {"step": 10, "epoch": 0.5, "loss": 0.9, "accuracy": 0.6, "lr": 0.1}
POSITION = {"epoch": 2, "cursor": 64, "step": 31, "sums": [1.0, 2.0, 3.0], "seconds": 0.5, "first_epoch": 0}
DESCRIPTION = {"position": POSITION, "optimizer": {}, "seed": 0, "history": "", "model": None, "loss": None}


def test_a_history_is_a_table():
    lines = str(History([EPOCH, EPOCH | {"epoch": 2, "validation_loss": 0.4, "validation_accuracy": 0.8}])).splitlines()
    assert lines[0].split() == ["epoch", "loss", "accuracy", "val.", "loss", "val.", "accuracy", "images/s", "seconds"]
    assert lines[2].split() == ["1", "0.5000", "75.00%", "12,346", "1.2"]
    assert lines[3].split() == ["2", "0.5000", "75.00%", "0.4000", "80.00%", "12,346", "1.2"]
    assert len({len(line) for line in lines}) == 1
    assert str(History()).splitlines()[0].split() == ["epoch", "loss", "accuracy"]
    assert str(History([EPOCH], interrupted=True)).endswith("interrupted")


def test_a_history_travels_as_json():
    history = History([EPOCH], [POINT], True, "run.safetensors")
    assert History.from_json(history.to_json()) == history
    for text in ("", "[]", "{}", '{"epochs": 3, "steps": []}'):
        with pytest.raises(FileError, match="not a training history"):
            History.from_json(text)


def test_plots(tmp_path):
    pytest.importorskip("matplotlib")
    with pytest.raises(ArgumentError, match="nothing to plot"):
        History().plot(tmp_path / "empty.png")
    validated = EPOCH | {"validation_loss": 1.0}
    for number, history in enumerate((History([EPOCH]), History([], [POINT]), History([validated], [POINT]))):
        history.plot(tmp_path / f"{number}.png")
        assert (tmp_path / f"{number}.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(FileError, match="cannot write the plot"):
        History([EPOCH]).plot(tmp_path / "missing" / "curves.png")
    with pytest.raises(FileError, match="cannot write the plot"):
        History([EPOCH]).plot(tmp_path / "curves.nonsense")


def test_checkpoints(tmp_path):
    path = tmp_path / "run.safetensors"
    write_checkpoint(path, {"model.w": np.arange(3.0, dtype=np.float32), "state.step": np.asarray(31, np.int32)}, DESCRIPTION)
    arrays, saved = read_checkpoint(path)
    assert arrays["model.w"].tolist() == [0, 1, 2] and int(arrays["state.step"]) == 31
    assert saved["format"] == FORMAT and read_position(saved).cursor == 64


def test_a_newer_format_is_refused(tmp_path):
    path = tmp_path / "run.safetensors"
    save_state({}, path, {"clnn.checkpoint": json.dumps({"format": FORMAT + 1, "clnn": "9.9"})})
    with pytest.raises(FileError, match="newer format") as caught:
        read_checkpoint(path)
    assert "update clnn" in str(caught.value) and "9.9" in str(caught.value)


@pytest.mark.parametrize("metadata, message", [({}, "not a checkpoint"), ({"clnn.checkpoint": "{"}, "cannot be read"),
                                               ({"clnn.checkpoint": '{"format": 1, "seed": 3}'}, "incomplete")])
def test_other_files_are_refused(tmp_path, metadata, message):
    path = tmp_path / "other.safetensors"
    save_state({"w": np.zeros(2, np.float32)}, path, metadata)
    with pytest.raises(FileError, match=message):
        read_checkpoint(path)


def test_a_damaged_or_missing_checkpoint(tmp_path):
    path = tmp_path / "run.safetensors"
    with pytest.raises(FileError, match="no such file"):
        read_checkpoint(path)
    write_checkpoint(path, {"model.w": np.zeros(100, np.float32)}, DESCRIPTION)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(FileError, match="truncated"):
        read_checkpoint(path)


def test_leftovers_of_a_killed_writer_are_removed(tmp_path):
    path = tmp_path / "run.safetensors"
    for name in (".run.safetensors.abc.part", ".other.safetensors.abc.part", "run.safetensors"):
        (tmp_path / name).touch()
    clear_leftovers(path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".other.safetensors.abc.part", "run.safetensors"]


def test_augmentation():
    assert augmentation(None) == {"crop": 0, "flip": False}
    assert augmentation("crop-flip") == {"crop": 4, "flip": True}
    assert augmentation({"crop": 2}) == {"crop": 2, "flip": False}
    for wrong in ("flip", {"rotate": 3}, {"crop": -1}, 5):
        with pytest.raises(ArgumentError, match="unknown augmentation"):
            augmentation(wrong)


def test_labels():
    check_labels(np.array([0, 9, 3]), 10, "set")
    with pytest.raises(DataError, match="label 12 at position 1, but the model has 10 outputs"):
        check_labels(np.array([0, 12, 3]), 10, "set")
    with pytest.raises(DataError, match="label -1"):
        check_labels(np.array([-1]), 10, "set")


def test_import_stays_light():
    heavy = {"rich", "matplotlib", "sklearn", "clnn.train"}
    code = f"import sys, clnn; assert not {heavy} & set(sys.modules); clnn.Trainer, clnn.History"
    subprocess.run([sys.executable, "-c", code], check=True)
