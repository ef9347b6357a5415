"""Read the files of a folder, a zip or a tar by name, without ever extracting to disk."""

from __future__ import annotations

import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath

from ..errors import FileError

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2")

_DAMAGE = (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, NotImplementedError, RuntimeError)


class _StrictTarInfo(tarfile.TarInfo):
    """A header that must be whole: tarfile takes a damaged or missing one for the end of the archive and stays silent."""

    @classmethod
    def fromtarfile(cls, tarfile_):  # type: ignore[override]
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"unexpected end or damaged header ({error})") from error


def _safe_name(archive: Path, name: str, *, link: bool, ordinary: bool) -> str:
    """The member's name as plain relative parts, or FileError when it points out of the archive."""
    problem = None
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if name.startswith(("/", "\\")) or (parts and parts[0].endswith(":")):
        problem = "an absolute path"
    elif ".." in parts:
        problem = "a path with '..'"
    elif link:
        problem = "a link"
    elif not ordinary:
        problem = "a device or pipe"
    if problem:
        raise FileError("the archive is unsafe", where=f"{archive}: {name}", got=problem,
                        expected="ordinary files below one folder", hint="do not use this archive, or pack it again without it")
    return "/".join(part for part in parts if part != ".")


def _walk_tar(path: Path):
    """Yield (name, reader) of each file, in the archive's order: a compressed tar is cheap only when read forwards."""
    with tarfile.open(path, tarinfo=_StrictTarInfo) as tar:
        for member in tar:
            link = member.issym() or member.islnk()
            name = _safe_name(path, member.name, link=link, ordinary=member.isreg() or member.isdir())
            if member.isreg():
                yield name, lambda member=member: tar.extractfile(member).read()  # type: ignore[union-attr]


def _walk_zip(path: Path):
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            link = stat.S_ISLNK(member.external_attr >> 16)
            name = _safe_name(path, member.filename, link=link, ordinary=True)
            if not member.is_dir():
                yield name, lambda member=member: archive.read(member)


def _unreadable(error: OSError) -> None:
    raise error


def _walk_folder(path: Path):
    for name, below, files in os.walk(path, followlinks=True, onerror=_unreadable):
        folder = Path(name)
        above = [parent for parent in folder.parents if parent.is_relative_to(path)]
        if any(parent.samefile(folder) for parent in above):  # a link back up
            below.clear()
            continue
        below.sort()
        for file in sorted(files):
            full = folder / file
            yield full.relative_to(path).as_posix(), full.read_bytes


def _walk(path: Path):
    if path.is_dir():
        return _walk_folder(path)
    if not path.exists():
        raise FileError("no such folder or archive", where=path)
    with path.open("rb") as file:
        is_zip = file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")
    return _walk_zip(path) if is_zip else _walk_tar(path)


def _damaged(path: Path, name: str | None, error: BaseException) -> FileError:
    return FileError("cannot be read: truncated, damaged, or not an archive", where=f"{path}: {name}" if name else path,
                     got=f"{type(error).__name__}: {error}", expected=f"a folder, or one of {', '.join(SUFFIXES)}",
                     hint="fetch the file again")


def read_members(path: str | Path, wanted: Collection[str] | None = None) -> Iterator[tuple[str, bytes]]:
    """Yield (name, content) of the files in a folder or archive, all or the ``wanted``, in the order in which they lie there.

    Names are relative, with ``/``. Every member met on the way is checked, wanted or not.

    Raises:
        FileError: missing, truncated or damaged; or a member is absolute, climbs out by "..", or is a link.
    """
    path, name = Path(path), None
    try:
        for name, read in _walk(path):
            if wanted is None or name in wanted:
                yield name, read()
    except _DAMAGE as error:
        raise _damaged(path, name, error) from error


def list_members(path: str | Path) -> list[str]:
    """Names of all files in a folder or archive; raises as :func:`read_members`, and for a name that occurs twice."""
    path = Path(path)
    names: dict[str, None] = {}
    try:
        for name, _ in _walk(path):
            if name in names:
                raise FileError("the archive holds a file twice", where=f"{path}: {name}", hint="pack it again")
            names[name] = None
    except _DAMAGE as error:
        raise _damaged(path, None, error) from error
    return list(names)
