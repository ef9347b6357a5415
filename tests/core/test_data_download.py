"""download() against a server on this machine: whole, resumed, interrupted, wrong, absent."""

import functools
import hashlib
import http.server
import threading

import pytest

import clnn.data.mnist
from clnn.config import config
from clnn.data import MNIST, download
from clnn.errors import ArgumentError, DownloadError

CONTENT = bytes(range(256)) * 2000
MD5 = hashlib.md5(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT at any path but /absent; the server's attributes say how."""

    def do_GET(self):
        server, wanted = self.server, self.headers.get("Range")
        server.ranges.append(wanted)
        if self.path == "/absent":
            self.send_error(404)
            return
        start = int(wanted[len("bytes="):-1]) if wanted and server.has_ranges else 0
        if start >= len(CONTENT):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(CONTENT)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = CONTENT[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if server.interruptions:
            server.interruptions -= 1
            body = body[:100_000]
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.has_ranges, running.interruptions, running.ranges = True, 0, []
        thread = threading.Thread(target=functools.partial(running.serve_forever, poll_interval=0.02))
        thread.start()
        running.address = f"http://127.0.0.1:{running.server_port}"
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "below" / "file.bin"


def part_of(target):
    return target.with_name("file.bin.part")


def begun(target, content):
    target.parent.mkdir()
    part_of(target).write_bytes(content)


def test_whole_file(server, target):
    assert download(f"{server.address}/file", target, MD5, progress=False) == target
    assert target.read_bytes() == CONTENT
    assert not part_of(target).exists()
    download(f"{server.address}/file", target, MD5, progress=False)
    assert server.ranges == [None], "a file that is already there is not fetched again"


def test_progress_bar(server, target, capsys):
    pytest.importorskip("rich")
    download(f"{server.address}/file", target, MD5)
    assert "file.bin" in capsys.readouterr().out


@pytest.mark.parametrize("has_ranges", [True, False])
def test_resumes_a_partial_file(server, target, has_ranges):
    server.has_ranges = has_ranges
    begun(target, CONTENT[:1234])
    download(f"{server.address}/file", target, MD5, progress=False)
    assert target.read_bytes() == CONTENT
    assert server.ranges == ["bytes=1234-"]


@pytest.mark.parametrize("has_ranges", [True, False])
def test_goes_on_after_an_interruption(server, target, has_ranges):
    server.has_ranges, server.interruptions = has_ranges, 2
    download(f"{server.address}/file", target, MD5, progress=False)
    assert target.read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=100000-", f"bytes={200000 if has_ranges else 100000}-"]


def test_keeps_what_it_has_when_it_gives_up(server, target):
    server.interruptions = 3
    with pytest.raises(DownloadError, match="the connection ended after 300000 of 512000 bytes"):
        download(f"{server.address}/file", target, MD5, progress=False)
    assert not target.exists()
    assert part_of(target).read_bytes() == CONTENT[:300_000]
    download(f"{server.address}/file", target, MD5, progress=False)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("part", [b"x" * 1234, CONTENT + b"x", b"x" * len(CONTENT)], ids=["other", "longer", "as long"])
def test_a_partial_file_of_something_else_is_dropped(server, target, part):
    begun(target, part)
    download(f"{server.address}/file", target, MD5, progress=False)
    assert target.read_bytes() == CONTENT


def test_a_whole_partial_file_is_only_renamed(server, target):
    begun(target, CONTENT)
    download(f"{server.address}/file", target, MD5, progress=False)
    assert target.read_bytes() == CONTENT


def test_wrong_checksum(server, target):
    with pytest.raises(DownloadError) as caught:
        download(f"{server.address}/file", target, "0" * 32, progress=False)
    assert f"{server.address}/file: wrong checksum: MD5 {MD5}, expected {'0' * 32}" in str(caught.value)
    assert list(target.parent.iterdir()) == []
    assert len(server.ranges) == 1


def test_the_next_address_is_tried(server, target):
    download([f"{server.address}/absent", f"{server.address}/file"], target, MD5, progress=False)
    assert target.read_bytes() == CONTENT


def test_offline(target):
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as closed:
        address = f"http://127.0.0.1:{closed.server_port}/file"
    with pytest.raises(DownloadError) as caught:
        download([address], target, MD5, progress=False)
    text = str(caught.value)
    assert text.startswith(f"file.bin: the file could not be downloaded\n  got:      {address}: ")
    assert "refused" in text
    assert f"fetch {address} elsewhere and put it into {target.parent}, or set CLNN_DATA to a folder that holds it" in text


def test_absent(server, target):
    with pytest.raises(DownloadError, match="/absent: HTTP 404 Not Found"):
        download(f"{server.address}/absent", target, MD5, progress=False)
    assert len(server.ranges) == 1


def test_addresses_that_are_not_web_addresses(target):
    with pytest.raises(ArgumentError, match="urls: not a web address\n  got:      file:///etc/passwd"):
        download("file:///etc/passwd", target, MD5)


def test_a_folder_that_cannot_be_made(server, tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(DownloadError, match=r"the download cannot be stored(.|\n)*CLNN_CACHE"):
        download(f"{server.address}/file", tmp_path / "file" / "x", MD5, progress=False)


def test_mnist_fetches_into_the_cache(server, tmp_path, monkeypatch):
    monkeypatch.setattr(clnn.data.mnist, "ADDRESS", f"{server.address}/")
    with config.override(data=None, cache=tmp_path), pytest.raises(DownloadError) as caught:
        MNIST(split="test")
    assert "t10k-images-idx3-ubyte.gz: wrong checksum" in str(caught.value)
    assert f"put it into {tmp_path / 'mnist'}" in str(caught.value)
