"""Files that are there whole or not at all, whoever else reads or writes them at the same time; and answers kept in such."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO


@contextlib.contextmanager
def replacing(path: Path, mode: str = "w") -> Iterator[IO]:
    """A new file, open for writing, that takes the place of ``path`` at the end of the block, or goes if the block fails. The
    folder is made.

    Raises:
        OSError: if the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".tmp")
    try:
        with os.fdopen(handle, mode) as file:
            yield file
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


class Answers:
    """Answers that outlast a process, JSON values by the texts of their questions: each is a file of one folder, in which the
    newest stay.

    Whatever lies there is an answer that was kept, or no answer. Where nothing can be written, nothing is kept.
    """

    #: files that stay
    MOST = 200

    def __init__(self, folder: Path):
        self.folder = folder

    def recall(self, question: str):
        """The answer that was kept last, or None."""
        try:
            return json.loads(zlib.decompress(self._path(question).read_bytes()))
        except (OSError, zlib.error, ValueError):
            return None

    def keep(self, question: str, answer) -> None:
        with contextlib.suppress(OSError):
            with replacing(self._path(question), "wb") as file:
                file.write(zlib.compress(json.dumps(answer).encode(), 1))
            for old in sorted(self.folder.iterdir(), key=os.path.getmtime)[:-self.MOST]:
                old.unlink()

    def _path(self, question: str) -> Path:
        return self.folder / hashlib.sha256(question.encode()).hexdigest()[:32]
