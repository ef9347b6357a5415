"""Files that are replaced whole or not at all."""

from __future__ import annotations

import pytest

from clnn.files import Answers, replacing


def test_the_new_file_takes_the_place_at_the_end(tmp_path):
    path = tmp_path / "folder" / "file.txt"
    with replacing(path) as file:
        file.write("first")
    with replacing(path) as file:
        file.write("second")
        file.flush()
        assert path.read_text() == "first"
    assert path.read_text() == "second" and list(path.parent.iterdir()) == [path]


def test_a_block_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), replacing(path, "wb") as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_answers_outlast_whoever_kept_them(tmp_path):
    Answers(tmp_path / "answers").keep("how?", {"so": [1, None, "x"]})
    assert Answers(tmp_path / "answers").recall("how?") == {"so": [1, None, "x"]}
    assert Answers(tmp_path / "answers").recall("why?") is None and Answers(tmp_path / "nowhere").recall("how?") is None


@pytest.mark.parametrize("damage", [lambda whole: b"", lambda whole: whole[:-3], lambda whole: b"garbage"])
def test_a_damaged_answer_is_none(damage, tmp_path):
    answers = Answers(tmp_path)
    answers.keep("how?", list(range(100)))
    (path,) = tmp_path.iterdir()
    path.write_bytes(damage(path.read_bytes()))
    assert answers.recall("how?") is None
    answers.keep("how?", "so")
    assert answers.recall("how?") == "so"


def test_the_newest_answers_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(Answers, "MOST", 3)
    for number in range(5):
        Answers(tmp_path).keep(f"question {number}", number)
    assert len(list(tmp_path.iterdir())) == 3 and Answers(tmp_path).recall("question 4") == 4


def test_where_nothing_can_be_written_nothing_is_kept(tmp_path):
    (tmp_path / "file").write_text("no folder")
    Answers(tmp_path / "file").keep("how?", 1)
    assert Answers(tmp_path / "file").recall("how?") is None
