"""Downloads that resume, are checked, and say what to do when there is no network."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ..errors import ArgumentError, DownloadError
from .extras import require

_CHUNK = 1 << 16
_ATTEMPTS = 3
_TIMEOUT_S = 30


class _Refused(Exception):
    """The server answered, and asking it again would not help."""


def file_md5(path: Path) -> str:
    """The MD5 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


@contextlib.contextmanager
def _progress_bar(label: str, wanted: bool) -> Iterator[Callable[[int, int | None], None]]:
    """A function to call with (bytes so far, bytes in all if known)."""
    if not wanted:
        yield lambda done, total: None
        return
    rich = require("rich.progress", "rich", "for the progress bar of a download (progress=False goes without)")
    columns = (rich.TextColumn("{task.description}"), rich.BarColumn(), rich.DownloadColumn(), rich.TransferSpeedColumn(),
               rich.TimeRemainingColumn())
    with rich.Progress(*columns) as progress:
        task = progress.add_task(label, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _total_bytes(response: http.client.HTTPResponse, start: int) -> int | None:
    length = response.headers.get("Content-Length")
    return start + int(length) if length is not None and length.isdigit() else None


def _fetch(url: str, part: Path, report: Callable[[int, int | None], None]) -> None:
    """Bring ``part`` to its full length, going on from what it already holds."""
    start = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "clnn", "Accept-Encoding": "identity"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing past what we hold: complete, or of some other file
            size = error.headers.get("Content-Range", "").rpartition("/")[2]
            if size.isdigit() and int(size) != start:
                part.unlink()
                raise ConnectionError(f"the partial file has {start} bytes, the whole {size}") from error
            return
        if error.code < 500 and error.code not in (408, 429):
            raise _Refused(f"HTTP {error.code} {error.reason}") from error
        raise
    with response:
        span = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
        resumed = response.status == 206 and span is not None and int(span.group(1)) == start
        done = start if resumed else 0
        total = _total_bytes(response, done)
        with part.open("ab" if resumed else "wb") as file:
            while block := response.read(_CHUNK):
                file.write(block)
                done += len(block)
                report(done, total)
    if total is not None and done < total:
        raise ConnectionError(f"the connection ended after {done} of {total} bytes")


def _attempt(url: str, part: Path, md5: str | None, report: Callable[[int, int | None], None]) -> str | None:
    """Try one address a few times; None when ``part`` is whole and right, else why not."""
    problem = "no attempt was made"
    for _ in range(_ATTEMPTS):
        resuming = part.exists()
        try:
            _fetch(url, part, report)
        except _Refused as error:
            return str(error)
        except (OSError, http.client.HTTPException) as error:
            problem = str(getattr(error, "reason", None) or error) or type(error).__name__
            if not part.exists() and isinstance(error, urllib.error.URLError):
                return problem  # not even a connection
            continue
        found = file_md5(part)
        if md5 is None or found == md5.lower():
            return None
        part.unlink()
        problem = f"wrong checksum: MD5 {found}, expected {md5}"
        if not resuming:  # a fresh copy is wrong at the source; a resumed one may have begun as another file
            return problem
    return problem


def download(urls: str | Sequence[str], destination: str | Path, md5: str | None = None, progress: bool = True) -> Path:
    """Download a file, from the first of ``urls`` that has it.

    Goes on with ``<destination>.part`` where an earlier download stopped, checks the MD5, and only then renames. A destination
    that already has the right MD5 is left alone.

    Args:
        urls: one address or several, http or https, tried in turn.
        destination: the file to write; its folder is made.
        md5: expected MD5 in hexadecimal; None takes what comes.
        progress: draw a progress bar (needs rich).

    Raises:
        ArgumentError: an address that is neither http nor https.
        DownloadError: no address gave the file; says why for each, and where to put the file by hand.
    """
    urls = [urls] if isinstance(urls, str) else list(urls)
    destination = Path(destination)
    for url in urls:
        if not url.startswith(("http://", "https://")):
            raise ArgumentError("not a web address", where="urls", got=url, expected="http:// or https://")
    if md5 is not None and destination.is_file() and file_md5(destination) == md5.lower():
        return destination
    part = destination.with_name(destination.name + ".part")
    problems = []
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        with _progress_bar(destination.name, progress) as report:
            for url in urls:
                problem = _attempt(url, part, md5, report)
                if problem is None:
                    os.replace(part, destination)
                    return destination
                problems.append(f"{url}: {problem}")
    except OSError as error:
        raise DownloadError("the download cannot be stored", where=destination, got=error,
                            hint="choose another folder with CLNN_CACHE") from error
    raise DownloadError("the file could not be downloaded", where=destination.name, got="; ".join(problems),
                        hint=f"without a network, fetch {urls[0]} elsewhere and put it into {destination.parent}, or set "
                             f"CLNN_DATA to a folder that holds it; a later try goes on where this one stopped")
