"""Downloads from servers on 127.0.0.1 that misbehave in the ways real ones do."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import http.server
import random
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from unitgain import InputError
from unitgain.data import catalogue, fetch, sources
from unitgain.data.download import download
from unitgain.data.fetching import RemoteFile

CONTENT = random.Random(0).randbytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server:
    """How the handler behaves (good, no-range, wrong-range, truncate, wrong, 404, 500, silent)."""

    def __init__(self, behaviour: str, files: dict[str, bytes] | None = None) -> None:
        self.behaviour = behaviour
        self.files = files or {"file": CONTENT}
        self.ranges: list[str | None] = []
        self.url = ""


@contextlib.contextmanager
def serve(behaviour: str, files: dict[str, bytes] | None = None) -> Iterator[Server]:
    state = Server(behaviour, files)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            state.ranges.append(wanted)
            content = state.files.get(self.path.lstrip("/"))
            if state.behaviour == "silent":
                stop.wait(5)
                return
            if state.behaviour in ("404", "500") or content is None:
                self.send_error(500 if state.behaviour == "500" else 404)
                return
            if state.behaviour == "wrong":
                content = b"<html>please log in</html>"
            start = 0
            if wanted and state.behaviour != "no-range":
                start = int(wanted.removeprefix("bytes=").removesuffix("-"))
                if start >= len(content):
                    self.send_error(416)
                    return
                start += state.behaviour == "wrong-range"
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            else:
                self.send_response(200)
            body = content[start:]
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if state.behaviour == "truncate" else body)

        def log_message(self, *_: object) -> None:
            pass

    stop = threading.Event()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        state.url = f"http://127.0.0.1:{server.server_address[1]}/"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield state
        finally:
            stop.set()
            server.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def test_a_good_server_gives_the_file_and_nothing_else(tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    with serve("good") as server:
        target = download(
            [server.url + "file"], tmp_path / "new" / "file", SHA256, progress=lambda *a: seen.append(a)
        )
        assert target.read_bytes() == CONTENT
        assert [p.name for p in target.parent.iterdir()] == ["file"]
        assert seen[-1] == (len(CONTENT), len(CONTENT))
        download([server.url + "file"], target, SHA256)
        assert len(server.ranges) == 1, "a file that is right must not be fetched again"


def test_an_interrupted_download_goes_on_where_it_stopped(tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(CONTENT[:100_000])
    with serve("good") as server:
        assert download([server.url + "file"], tmp_path / "file", SHA256).read_bytes() == CONTENT
        assert server.ranges == ["bytes=100000-"]


def test_a_server_that_ignores_range_does_not_append_the_whole_to_the_piece(tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(CONTENT[:100_000])
    with serve("no-range") as server:
        assert download([server.url + "file"], tmp_path / "file", SHA256).read_bytes() == CONTENT


def test_a_server_that_sends_another_range_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(CONTENT[:100_000])
    with serve("wrong-range") as server:
        assert download([server.url + "file"], tmp_path / "file", SHA256).read_bytes() == CONTENT
        assert server.ranges == ["bytes=100000-", None]


@pytest.mark.parametrize("piece", [b"something else", CONTENT + b"more"], ids=["foreign", "too long"])
def test_a_foreign_piece_is_thrown_away_and_fetched_from_the_start(tmp_path: Path, piece: bytes) -> None:
    (tmp_path / "file.part").write_bytes(piece)
    with serve("good") as server:
        assert download([server.url + "file"], tmp_path / "file", SHA256).read_bytes() == CONTENT
        assert server.ranges[-1] is None


def test_a_complete_piece_only_needs_its_name(tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(CONTENT)
    with serve("good") as server:
        assert download([server.url + "file"], tmp_path / "file", SHA256).read_bytes() == CONTENT


def test_truncated_downloads_leave_only_a_piece_that_is_used_later(tmp_path: Path) -> None:
    with serve("truncate") as server:
        with pytest.raises(InputError, match="the connection ended after") as caught:
            download([server.url + "file"], tmp_path / "file", SHA256)
        assert server.url in str(caught.value)
        assert not (tmp_path / "file").exists()
        assert (tmp_path / "file.part").read_bytes() == CONTENT[
            : len(CONTENT) // 8 * 7
        ]  # three halves of the rest
        server.behaviour = "good"
        assert download([server.url + "file"], tmp_path / "file", SHA256).read_bytes() == CONTENT
    assert not (tmp_path / "file.part").exists()


def test_wrong_content_is_refused_and_removed(tmp_path: Path) -> None:
    with serve("wrong") as server, pytest.raises(InputError, match="SHA-256 differs"):
        download([server.url + "file"], tmp_path / "file", SHA256)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("first", ["404", "500", "wrong", "truncate", "silent"])
def test_the_second_mirror_helps_out(tmp_path: Path, first: str) -> None:
    with serve(first) as bad, serve("good") as good:
        urls = [bad.url + "file", good.url + "file"]
        assert download(urls, tmp_path / "file", SHA256, timeout=0.2).read_bytes() == CONTENT
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_when_no_mirror_helps_every_reason_is_given_in_one_line(tmp_path: Path) -> None:
    with serve("404") as one, serve("silent") as two:
        urls = [one.url + "file", two.url + "file", "http://127.0.0.1:1/file"]
        with pytest.raises(InputError) as caught:
            download(urls, tmp_path / "file", SHA256, timeout=0.2)
    message = str(caught.value)
    for words in ("HTTP 404", "no answer in time", "refused"):
        assert words in message
    assert "\n" not in message
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_never_ends_cannot_fill_the_disk(tmp_path: Path) -> None:
    with serve("good") as server, pytest.raises(InputError, match="sends more than 1,000 bytes"):
        download([server.url + "file"], tmp_path / "file", SHA256, limit=1_000)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_in_place_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(CONTENT[:-1])
    with serve("good") as server:
        assert download([server.url + "file"], tmp_path / "file", SHA256).read_bytes() == CONTENT


def test_a_repacked_archive_is_known_by_what_it_holds(tmp_path: Path) -> None:
    packed = {"file": gzip.compress(CONTENT, 1, mtime=7)}
    with serve("good", packed) as server:
        download([server.url + "file"], tmp_path / "file", SHA256, unpacked=True)
    with serve("good") as server, pytest.raises(InputError, match="SHA-256"):
        download([server.url + "file"], tmp_path / "other", SHA256, unpacked=True)  # not gzipped at all


def test_a_cache_that_cannot_be_written_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "blocked").write_text("a file where the folder should be")
    with pytest.raises(InputError, match="cannot be written"):
        download(["http://127.0.0.1:1/file"], tmp_path / "blocked" / "file", SHA256)


def test_two_downloads_at_once_do_not_spoil_each_other(tmp_path: Path) -> None:
    with serve("good") as server:
        threads = [
            threading.Thread(target=download, args=([server.url + "file"], tmp_path / "file", SHA256))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(server.ranges) == 1
    assert (tmp_path / "file").read_bytes() == CONTENT


# ---- the catalogue -----------------------------------------------------------------------------------------


def test_fetch_puts_all_files_of_a_data_set_into_the_cache(
    own_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {name: gzip.compress(name.encode()) for name in ("a.gz", "b.gz")}
    remote = tuple(
        RemoteFile(name, len(data), hashlib.sha256(name.encode()).hexdigest(), gzipped=True)
        for name, data in files.items()
    )
    known = catalogue.DATASETS["fashion-mnist"]
    monkeypatch.setitem(catalogue.DATASETS, "fashion-mnist", replace(known, files=remote))
    seen: list[str] = []
    with serve("good", files) as server:
        folder = fetch("fashion-mnist", mirrors=[server.url], progress=lambda name, *_: seen.append(name))
    assert folder == own_machine / "cache" / "fashion-mnist"
    assert sorted(p.name for p in folder.iterdir()) == ["a.gz", "b.gz"]
    assert seen == ["a.gz", "b.gz"]


def test_fetched_names_are_listed_and_found(own_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = b"\n".join([b"anna"] * 12)
    remote = (RemoteFile("names.txt", len(content), hashlib.sha256(content).hexdigest()),)
    known = catalogue.DATASETS["names"]
    monkeypatch.setitem(catalogue.DATASETS, "names", replace(known, files=remote))
    before = {s.name: s for s in sources()}
    assert before["names"].status == "built in"
    assert before["fashion-mnist"].status == "absent"
    assert before["fashion-mnist"].path is None
    assert before["fashion-mnist"].size == 30_878_645
    with serve("good", {"names.txt": content}) as server:
        assert fetch("names", mirrors=[server.url]) == own_machine / "cache" / "names.txt"
    after = next(s for s in sources() if s.name == "names")
    assert (after.status, after.source, after.size) == ("present", "cache", len(content))


def test_an_unknown_data_set_is_answered_with_the_nearest(own_machine: Path) -> None:
    with pytest.raises(InputError, match=r"'fashion_mnist' is unknown.*did you mean 'fashion-mnist'"):
        fetch("fashion_mnist")
