"""The page for a dataset, below the browser: which samples a filter means, what is fetched, what a field is shown as,
and whom the server answers."""

from __future__ import annotations

import http.client
import io
import json
import random
import re
import socket
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import driveshard
from driveshard.archive.zip_writer import ZipWriter
from driveshard.core.errors import ConfigError, Mismatch, UsageError
from driveshard.dataset.view import server as servers
from driveshard.dataset.view.bodies import Bodies
from driveshard.dataset.view.fields import picture
from driveshard.dataset.view.keys import Keys
from driveshard.dataset.view.samples import Samples, open_samples
from driveshard.dataset.view.site import Site
from driveshard.dataset.view.view import View
from driveshard.emulator import Emulator
from tests.dataset.test_link import Place

DEPTH = (1200 + np.add.outer(np.arange(20), np.arange(30)) * 4).astype(np.uint16)


def encoded(image: Image.Image, form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form)
    return buffer.getvalue()


def zipped(directory: Path, files: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(directory / "a.zip", "w", method) as archive:
        for path, content in files.items():
            archive.writestr(path, content)
    return directory


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """``opened({"a.txt": b"..."})`` is a Site of those files."""
    monkeypatch.setenv("DRIVESHARD_HOME", str(tmp_path / "nobody"))
    made: list[Samples] = []

    def site(files: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Site:
        made.append(open_samples(str(zipped(tmp_path / f"set{len(made)}", files, method))))
        return Site(made[-1])

    yield site
    for one in made:
        one.close()


def asked(site: Site, target: str, status: int = 200) -> dict[str, Any]:
    answer = site.answer(target)
    document = json.loads(b"".join(answer.body))
    assert answer.status == status, document
    return dict(document)


def field_of(site: Site, at: int, field: str) -> dict[str, Any]:
    return next(one for one in asked(site, f"/sample?at={at}")["fields"] if one["field"] == field)


# -- filters ---------------------------------------------------------------------------------------------------------


def test_a_filter_means_what_a_search_of_every_key_finds(opened: Any) -> None:
    dice = random.Random(3)
    names = sorted({"".join(dice.choices("aAb/", k=dice.randint(1, 7))).strip("/") or "x" for _ in range(300)})
    names = [name for name in names if "//" not in name]
    site = opened({f"{name}.bin": b"" for name in names} | {"größe.bin": b""})
    samples = site._samples
    keys, dataset = Keys(samples.index), driveshard.Dataset(samples.place)
    every = list(dataset.keys)
    for text in ("a", "B", "ab", "aa", "aaa", "/a", "a/b", "b/", "GRÖSSE", "größe", "zz", "aAbaab" * 3):
        wanted = [at for at, key in enumerate(every) if ascii_lower(text) in ascii_lower(key)]
        assert keys.meant_by(text).tolist() == wanted, text
    assert keys.meant_by("").tolist() == list(range(len(every)))
    for glob in ("a*", "*b", "a/*", "**/b", "[ab]/*", "?", "a?b*", "/a*", "*a/", "*"):
        chosen = set(dataset.select(lambda key, glob=glob: glob_means(glob, key)).keys)
        assert [every[at] for at in keys.meant_by(glob)] == [key for key in every if key in chosen], glob
    with pytest.raises(UsageError, match="is not a glob"):
        keys.meant_by("[b-a]*")


def ascii_lower(text: str) -> bytes:
    return text.encode().lower()


def glob_means(glob: str, key: str) -> object:
    from driveshard.sources.globs import matcher

    return matcher([glob])(key)


# -- what is fetched -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    work = tmp_path_factory.mktemp("view")
    with Emulator(work / "drive") as emulator:
        yield Place(work, emulator)


@pytest.fixture(scope="module")
def link(place: Place) -> str:
    """300 samples of an image of 1.2 KB and a label, in parts of 8 KiB."""
    dice = random.Random(1)
    files = {}
    for number in range(300):
        files[f"d/{number:03d}.image.jpg"] = b"\xff\xd8\xff" + dice.randbytes(1200)
        files[f"d/{number:03d}.json"] = b'{"n": %d}' % number
    return place.push(files)


@pytest.mark.parametrize("who", ["owner", "stranger"])
def test_only_the_index_and_the_samples_that_are_shown_are_fetched(
    place: Place, link: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    monkeypatch.setenv("DRIVESHARD_HOME", str(place.settings.home if who == "owner" else tmp_path))
    before = len(downloads(place))
    told: list[tuple[int, int]] = []
    samples = open_samples(link, lambda count, total: told.append((count, total)))
    assert sum(count for count, _ in told) == told[0][1] == told[-1][1] > 10_000  # the index, as it comes
    site = Site(samples)
    assert len(downloads(place)) == before + 2  # manifest and index
    page = asked(site, "/page?first=96")
    assert (page["matching"], page["first"], len(page["samples"])) == (300, 96, 48)
    ids = [one["images"][0]["id"] for one in page["samples"]]
    bodies = [b"".join(site.answer(f"/image/{one}").body) for one in ids]
    assert bodies == [(place.source / f"d/{number:03d}.image.jpg").read_bytes() for number in range(96, 144)]
    texts = asked(site, "/texts?ids=" + ",".join(str(one["text"]) for one in page["samples"]))["texts"]
    assert list(texts.values()) == [f'{{"n": {number}}}' for number in range(96, 144)]
    parts = {int(samples.index.columns[0][one]) for one in ids}
    fetched = downloads(place)[before + 2 :]
    assert len(fetched) == len(parts) < 12  # neighbours by one request, whoever asks and however often
    assert sum(length_of(entry) for entry in fetched) < 48 * 1500
    samples.close()
    again = open_samples(link)
    assert len(downloads(place)) == before + 2 + len(parts) + 1  # the manifest; the index is kept
    assert not list((tmp_path / "cache").rglob("*.zip"))
    again.close()


def downloads(place: Place) -> list[dict[str, Any]]:
    return [entry for entry in place.emulator.log() if "download" in entry["kinds"]]


def length_of(entry: dict[str, Any]) -> int:
    begin, end = re.findall(r"\d+", str(entry["range"]))[:2]
    return int(end) - int(begin) + 1


def test_what_is_kept_is_bounded_and_what_failed_is_tried_again(tmp_path: Path) -> None:
    directory = zipped(tmp_path / "set", {f"{number:02d}.bin": bytes([number]) * 1000 for number in range(50)})
    samples = open_samples(str(directory))
    reads: list[int] = []

    def read(number: int, start: int, length: int) -> bytes:
        reads.append(length)
        data = (directory / "a.zip").read_bytes()[start : start + length]
        return data[:500] if len(reads) == 1 else data

    bodies = Bodies(samples.index, read, 2, limit=10_000)
    with pytest.raises(Mismatch, match="cut short"):
        bodies.get(7)
    assert bodies.get(7) == bytes([7]) * 1000 and bodies.get(7) == bytes([7]) * 1000
    assert reads == [1000, 1000]
    bodies.begin(range(50))
    assert bodies.get(49) == bytes([49]) * 1000 and len(reads) == 3
    assert len(bodies._kept) == 10 and bodies._bytes == 10_000
    assert bodies.get(0) == bytes(1000) and len(reads) == 4
    bodies.close()
    samples.close()


@pytest.mark.parametrize(("at_once", "requests"), [(1, 1), (2, 3)])
def test_a_place_that_takes_one_request_at_a_time_is_asked_for_more(
    tmp_path: Path, at_once: int, requests: int
) -> None:
    files = {f"{number:02d}.bin": bytes([number]) * (100_000 if number % 2 else 100) for number in range(5)}
    directory = zipped(tmp_path / "set", files)
    samples = open_samples(str(directory))
    reads: list[int] = []

    def read(number: int, start: int, length: int) -> bytes:
        reads.append(length)
        return (directory / "a.zip").read_bytes()[start : start + length]

    bodies = Bodies(samples.index, read, at_once)
    bodies.begin([4, 0, 2])
    assert [bodies.get(member) for member in (0, 2, 4)] == [files[f"{number:02d}.bin"] for number in (0, 2, 4)]
    assert len(reads) == requests
    bodies.close()
    samples.close()


# -- what a field is shown as ----------------------------------------------------------------------------------------


def test_deep_greys_are_stretched_and_all_else_is_as_it_is(opened: Any) -> None:
    holes = (DEPTH / 1000.0).astype(np.float32)
    holes[0, 0] = np.nan
    photo = encoded(Image.new("RGB", (8, 6), "red"), "JPEG")
    tiff = encoded(Image.fromarray(holes), "TIFF")
    site = opened({"a.depth.png": encoded(Image.fromarray(DEPTH)), "a.float.tif": tiff, "a.image.jpg": photo})
    page = asked(site, "/page")["samples"][0]
    assert [one["field"] for one in page["images"]] == ["image.jpg", "depth.png", "float.tif"]
    answers = [site.answer(f"/image/{one['id']}") for one in page["images"]]
    assert [one.media for one in answers] == ["image/jpeg", "image/png", "image/png"]
    assert b"".join(answers[0].body) == photo
    levels = [np.asarray(Image.open(io.BytesIO(b"".join(one.body)))) for one in answers[1:]]
    assert levels[0].dtype == np.uint8 and (levels[0].min(), levels[0].max(), levels[0][10, 10]) == (0, 255, 106)
    assert levels[1][0, 0] == 0 and levels[1].max() == 255
    notes = [one.get("note") for one in asked(site, "/sample?at=0")["fields"]]
    assert notes == ["8 x 6, RGB", "30 x 20, 16 bit, 1200 to 1392", "30 x 20, float, 1.204 to 1.392"]
    classes = Image.fromarray((DEPTH // 4 % 4).astype(np.uint8))
    assert np.asarray(Image.open(io.BytesIO(picture(encoded(classes)).data))).tolist() == (DEPTH // 4 % 4 * 85).tolist()
    plain = [Image.new("L", (4, 4), 0), Image.new("L", (4, 4), 200), Image.new("LA", (4, 4), 9), Image.new("1", (4, 4))]
    for one in [*plain, classes.convert("RGB"), classes.convert("P")]:
        assert picture(encoded(one)).data == encoded(one)
    with pytest.raises(Mismatch, match="cannot be decoded"):
        picture(b"no picture")


def test_text_is_text_and_what_is_neither_is_downloaded(opened: Any) -> None:
    page = b"<script>alert(1)</script>"
    files = {"a.json": '{"größe": [1, {}]}'.encode(), "a.html": page, "a.svg": page, "a.cls": b"3", "a.npy": b"\x93N"}
    site = opened({**files, "a.md": b"\xff\xfe", "a.unknown": b"words", "a.json5": b"x" * 70_000, "b": b"no field"})
    fields = {one["field"]: one for one in asked(site, "/sample?at=0")["fields"]}
    assert fields["json"]["text"] == '{\n  "größe": [\n    1,\n    {}\n  ]\n}'
    assert fields["html"]["text"] == fields["svg"]["text"] == page.decode() and fields["html"]["kind"] == "text"
    assert fields["unknown"]["text"] == "words" and fields["md"]["text"] == "\ufffd\ufffd"
    assert [fields[one]["kind"] for one in ("npy", "json5")] == ["other", "other"] and "text" not in fields["npy"]
    assert asked(site, "/sample?at=1")["fields"][0]["text"] == "no field"
    for name, one in fields.items():
        assert site.answer(f"/image/{one['id']}").status == 404
        raw = site.answer(f"/raw/{one['id']}")
        assert raw.media == "application/octet-stream"
        assert raw.headers["Content-Disposition"] == f"attachment; filename*=UTF-8''a.{name}"
        if name in files:
            assert b"".join(raw.body) == files[name]


def test_a_sample_of_very_many_fields_is_cut(opened: Any) -> None:
    site = opened({f"a.{number}.txt": b"%d" % number for number in range(120)})
    sample = asked(site, "/sample?at=0")
    assert len(sample["fields"]) == 100 and sample["more"] == 20
    assert asked(site, "/page")["samples"][0]["fields"] == 120


def test_what_is_not_there_or_damaged_is_an_answer(opened: Any, tmp_path: Path) -> None:
    photo = encoded(Image.new("RGB", (8, 6), "red"))
    site = opened({"a.png": photo, "b.png": b"none", "c.txt": b"some words"})
    for target in ("/etc/passwd", "/image/3", "/raw/99999999999999999999", "/image/-1", "//page", "/page.html"):
        assert asked(site, target, 404)["error"]
    for target in ("/sample?at=3", "/sample?at=x", "/page?first=x", "/page?filter=[z-a]*", "/texts?ids=x"):
        assert asked(site, target, 400)["error"]
    assert asked(site, "/texts?ids=-1,99,0,2")["texts"] == {"2": "some words"}
    assert "cannot be decoded" in asked(site, "/image/1", 502)["error"]
    assert "cannot be decoded" in field_of(site, 1, "png")["error"]
    zipped_file = tmp_path / "set0" / "a.zip"
    zipped_file.write_bytes(zipped_file.read_bytes().replace(b"some words", b"SOME WORDS"))
    with pytest.raises(Mismatch, match="damaged"):
        list(site.answer("/raw/2").body)
    again = open_samples(str(zipped_file.parent))  # nothing of it is kept there
    assert "damaged" in field_of(Site(again), 2, "txt")["error"]
    again.close()


def test_a_large_member_comes_in_blocks(opened: Any) -> None:
    data = random.Random(1).randbytes(1 << 20) * 6 + bytes(20 << 20)
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        answer = opened({"a.bin": data}, method).answer("/raw/0")
        blocks = list(answer.body)
        assert b"".join(blocks) == data and answer.length == len(data)
        assert max(map(len, blocks)) <= 4 << 20


# -- whom the server answers -----------------------------------------------------------------------------------------


@pytest.fixture
def shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[View]:
    monkeypatch.setenv("DRIVESHARD_HOME", str(tmp_path / "nobody"))
    files = {f"{number}.txt": b"words" for number in range(3)}
    with driveshard.view(zipped(tmp_path / "set", files), browser=False) as view:
        yield view


def get(view: View, path: str, **headers: str) -> tuple[int, Any, bytes]:
    host, port = re.findall(r"//(.*):(\d+)/", view.address)[0]
    line = http.client.HTTPConnection(host, int(port), timeout=20)
    try:
        line.putrequest("GET", path, skip_host="Host" in headers)
        for name, value in headers.items():
            line.putheader(name.replace("_", "-"), value)
        line.endheaders()
        reply = line.getresponse()
        return reply.status, reply.headers, reply.read()
    finally:
        line.close()


def test_only_this_machine_and_no_other_site_is_answered(shown: View) -> None:
    port = shown.address.rpartition(":")[2].rstrip("/")
    assert shown.address.startswith("http://127.0.0.1:") and shown.samples == 3
    assert get(shown, "/page", Host=f"localhost:{port}")[0] == 200
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1", f"127.0.0.1:{port}.evil.example", ""):
        status, _, body = get(shown, "/page", Host=host)
        assert status == 403 and b"words" not in body, host
    assert get(shown, "/page", Sec_Fetch_Site="cross-site")[0] == get(shown, "/", Sec_Fetch_Site="same-site")[0] == 403
    assert get(shown, "/page", Sec_Fetch_Site="same-origin")[0] == 200
    followed = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
    assert [get(shown, path, **followed)[0] for path in ("/", "/page")] == [200, 403], "a link in a notebook leads here"
    assert get(shown, "/", **{**followed, "Sec_Fetch_Dest": "iframe"})[0] == 403
    with pytest.raises(ConfigError, match=f"port {port} of this machine"):
        driveshard.view(shown._dataset.place, port=int(port), browser=False)


def test_every_reply_says_what_a_browser_must_not_do(shown: View) -> None:
    for path in ("/", "/page", "/sample?at=0", "/raw/0", "/image/0", "/nothing"):
        _, headers, _ = get(shown, path)
        assert headers["X-Content-Type-Options"] == "nosniff" and headers["Cache-Control"] == "no-store"
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["Content-Type"].startswith("text/html") == (path == "/")
        assert ("sandbox" in headers["Content-Security-Policy"]) == (path != "/")


def test_silent_connections_do_not_lock_others_out(shown: View, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers._Connection, "timeout", 0.3)
    port = int(shown.address.rpartition(":")[2].rstrip("/"))
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(servers.MOST_CONNECTIONS + 3)]
    assert get(shown, "/page")[0] == 200
    for one in silent:
        one.close()


def test_a_closed_view_is_gone(tmp_path: Path) -> None:
    with ZipWriter(zipped(tmp_path / "set", {}) / "b.zip") as writer:
        writer.add(b"k.txt", b"words")
        writer.close()
    view = driveshard.view(tmp_path / "set", browser=False)
    assert get(view, "/page")[0] == 200 and view.address in repr(view) and view.address in view._repr_html_()
    view.close()
    view.wait()
    with pytest.raises(ConnectionRefusedError):
        get(view, "/page")
