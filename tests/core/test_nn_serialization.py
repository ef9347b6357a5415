"""State files: round trip, whole or not at all, and what is said about broken ones."""

import os

import numpy as np
import pytest

from clnn import nn
from clnn.errors import ArgumentError, FileError
from clnn.nn import load_state, save_state


@pytest.fixture
def model():
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))


def test_round_trip(model, tmp_path):
    path = tmp_path / "model.safetensors"
    save_state(model.state_dict(), path, {"epoch": "3", "ünï": "cödé"})
    state, metadata = load_state(path)
    assert metadata == {"epoch": "3", "ünï": "cödé"}
    assert set(state) == set(model.state_dict())
    for name, array in model.state_dict().items():
        assert state[name].dtype == array.dtype and state[name].shape == array.shape
        np.testing.assert_array_equal(state[name], array)
    model.load_state_dict(state)
    assert os.listdir(tmp_path) == ["model.safetensors"]


def test_no_metadata_and_other_layouts(tmp_path):
    path = tmp_path / "state.safetensors"
    turned = np.arange(6.0).reshape(2, 3).T
    save_state({"turned": turned, "scalar": np.float32(2)}, str(path))
    state, metadata = load_state(str(path))
    assert metadata == {}
    np.testing.assert_array_equal(state["turned"], turned)
    assert state["scalar"].shape == ()


def test_files_are_readable_as_any_new_file_is(tmp_path):
    plain, path = tmp_path / "plain", tmp_path / "state"
    plain.touch()
    save_state({"a": np.zeros(1)}, path)
    assert path.stat().st_mode == plain.stat().st_mode
    path.chmod(0o600)
    save_state({"a": np.ones(1)}, path)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "state.safetensors"
    save_state({"a": np.zeros(1)}, path)

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("clnn.nn.serialization.save_file", full)
    with pytest.raises(FileError) as error:
        save_state({"a": np.ones(1)}, path)
    assert str(error.value) == (f"{path}: cannot write the file\n  got:      [Errno 28] No space left on device\n"
                                "  try:      check permissions and free space")
    assert os.listdir(tmp_path) == ["state.safetensors"]
    assert load_state(path)[0]["a"] == 0


def test_write_errors(tmp_path):
    state = {"a": np.zeros(1)}
    with pytest.raises(FileError, match="try:      create the folder"):
        save_state(state, tmp_path / "missing" / "state")
    with pytest.raises(FileError, match="cannot write the file: it is a folder"):
        save_state(state, tmp_path)
    with pytest.raises(ArgumentError, match=r"save_state, key 'epoch': metadata must be text\n  got:      int"):
        save_state(state, tmp_path / "state", {"epoch": 3})
    with pytest.raises(ArgumentError, match="save_state, entry 'a': a state holds arrays of numbers by name"):
        save_state({"a": [1, 2]}, tmp_path / "state")
    with pytest.raises(ArgumentError, match=r"entry 'a'.*\n  got:      object"):
        save_state({"a": np.array([None])}, tmp_path / "state")
    assert os.listdir(tmp_path) == []


def test_missing_file(tmp_path):
    with pytest.raises(FileError, match=r"there is no such file\n.*\n  try:      check the path"):
        load_state(tmp_path / "nothing")
    with pytest.raises(FileError, match="it is a folder, not a file"):
        load_state(tmp_path)


@pytest.mark.parametrize("damage", [
    lambda whole: b"", lambda whole: whole[:5], lambda whole: whole[:60], lambda whole: whole[:-1], lambda whole: whole + b"\0",
    lambda whole: b"PK\x03\x04" + whole, lambda whole: b"\xff" * 8 + whole[8:], lambda whole: whole.replace(b"F32", b"F99"),
], ids=["empty", "length_cut", "header_cut", "data_cut", "too_long", "another_format", "length_wrong", "type_unknown"])
def test_broken_files(model, tmp_path, damage):
    path = tmp_path / "state.safetensors"
    save_state(model.state_dict(), path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(FileError) as error:
        load_state(path)
    text = str(error.value)
    assert text.startswith(f"{path}: the file is truncated or not a safetensors file\n  got:      {path.stat().st_size} bytes, ")
    assert "try:      copy or save it again" in text


def test_types_that_numpy_does_not_know(tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file
    save_file({"a": torch.zeros(2, dtype=torch.bfloat16)}, tmp_path / "state")
    try:
        state, _ = load_state(tmp_path / "state")
    except FileError as error:
        assert "check its permissions, and that its arrays have types that numpy knows" in str(error)
    else:
        assert state["a"].tolist() == [0, 0]
