"""The card in the folder, as a colleague uses it: its own commands are run, as they stand there."""

from __future__ import annotations

import re
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from driveshard.archive import manifest as manifests
from driveshard.cli.demo.objects import draw_backgrounds, draw_foregrounds
from driveshard.cli.main import COMMANDS
from driveshard.config.card_words import CardWords
from driveshard.core.errors import ConfigError, SourceMissing, UsageError
from driveshard.core.events import ignore
from driveshard.emulator import Emulator
from driveshard.sources.composite.source import CompositeSource
from driveshard.upload.dataset_folder.permissions import share
from driveshard.upload.push import prepare
from tests.rig import Rig, Shelf, environment

FILES = {
    **{f"cats/{number:03d}.jpg": b"c" * (100 + number) for number in range(6)},
    **{f"cats/{number:03d}.json": b'{"label": "cat", "score": 0.%d}' % number for number in range(6)},
    **{f"dogs/it's {number}.jpg": b"d" * 50 for number in range(3)},
    **{f"dogs/it's {number}.json": b'{"label": "dog", "score": 0.%d}' % number for number in range(3)},
}


@pytest.fixture
def rig(tmp_path: Path, emulator: Emulator) -> Rig:
    for path, data in FILES.items():
        file = tmp_path / "source" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return Rig(tmp_path, emulator.url, part_size=1500, name="my pets")


def card_of(rig: Rig) -> str:
    shelf = Shelf(rig.url)
    (found,) = [one for one in shelf.files if one["name"] == "README.md"]
    return shelf.content(found["id"]).decode()


def snippets(card: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", card, re.S | re.M)


def fetched(rig: Rig, directory: Path) -> Path:
    """The folder as a browser brings it."""
    directory.mkdir()
    shelf = Shelf(rig.url)
    for one in shelf.files:
        if not one["mimeType"].endswith(".folder"):
            (directory / one["name"]).write_bytes(shelf.content(one["id"]))
    return directory


def shell(script: str, directory: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """A script in a shell that has a ``driveshard`` on its path, but no login."""
    tool = directory.parent / "bin" / "driveshard"
    tool.parent.mkdir(exist_ok=True)
    tool.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m driveshard "$@"\n')
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    known = environment(DRIVESHARD_HOME=str(directory / "nobody"), **variables)
    known["PATH"] = f"{tool.parent}:{known['PATH']}"
    return subprocess.run(
        ["bash", "-euc", script], cwd=directory, env=known, capture_output=True, text=True, timeout=120
    )


def contents(directory: Path) -> dict[str, bytes]:
    return {one.relative_to(directory).as_posix(): one.read_bytes() for one in directory.rglob("*") if one.is_file()}


def test_the_shell_loop_unpacks_everything(rig: Rig, tmp_path: Path) -> None:
    assert rig.push(share="anyone").error is None
    (tmp_path / "source" / "cats" / "000.jpg").write_bytes(b"a newer cat")
    assert rig.push().parts > 2
    here = fetched(rig, tmp_path / "here")
    (unpack,) = [one for one in snippets(card_of(rig), "sh") if "unzip" in one]
    done = shell(unpack, here)
    assert (done.returncode, done.stderr) == (0, "")
    assert contents(here / "my pets-files") == {**FILES, "cats/000.jpg": b"a newer cat"}


@pytest.mark.parametrize("paged", [False, True])
def test_the_python_lines_read_one_file(rig: Rig, tmp_path: Path, paged: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if paged:
        monkeypatch.setattr(manifests, "SPLIT_OVER", 0)
    assert rig.push().error is None
    here = fetched(rig, tmp_path / "here")
    (code,) = snippets(card_of(rig), "python")
    assert len(code.splitlines()) <= (16 if paged else 12)
    assert len(list(here.glob("manifest-*.json"))) == paged
    done = subprocess.run([sys.executable, "-I", "-c", code], cwd=here, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, f"{len(FILES)} files; cats/000.jpg has 100 bytes\n"), done.stderr


def test_the_commands_work_without_a_login(rig: Rig, tmp_path: Path) -> None:
    link = str(rig.push(share="anyone").link)
    card = card_of(rig)
    assert f"<{link}>" in card and "without an account" in card and "driveshard login" not in card
    here = tmp_path / "here"
    here.mkdir()
    commands = [line for one in snippets(card, "sh") for line in one.splitlines() if line.startswith("driveshard ")]
    assert [line.split()[1] for line in commands] == ["pull", "cat", "ls"]
    for line in commands:
        if line.split()[1] in COMMANDS:
            assert shell(line, here).returncode == 0
    assert (here / "000.jpg").read_bytes() == FILES["cats/000.jpg"]
    if "pull" in COMMANDS:
        assert list((here / "my pets").glob("*.zip"))


def test_what_is_inside(rig: Rig) -> None:
    assert rig.push().error is None
    card = card_of(rig)
    assert "9 samples (18 files," in card
    for line in ("| `jpg` | 9 | 765 B | 85 B |", "| `cats` | 6 |", "| `dogs` | 3 |", "- **label**: `cat` 6, `dog` 3"):
        assert line in card
    assert "score" not in card  # a measurement


def test_who_can_read_is_on_the_card_and_follows(rig: Rig) -> None:
    rig.push()
    assert "It is private" in card_of(rig) and "driveshard login" in card_of(rig)
    share(rig.name, "user:ada@example.org", rig.settings(), ignore)
    assert "shared with ada@example.org" in card_of(rig)
    rig.push(share="anyone")
    assert "Anyone who has the link" in card_of(rig)


def test_nothing_is_written_when_nothing_is_new(rig: Rig, emulator: Emulator) -> None:
    rig.push(share="anyone", words=CardWords("Mine."))
    before = emulator.stats()["writes"]
    rig.push(share="anyone", words=CardWords("Mine."))
    rig.push()
    assert emulator.stats()["writes"] == before


def test_the_owners_words_stay_until_others_are_given(rig: Rig) -> None:
    rig.push(words=CardWords("# Hello\n\nMy *own* words.", "CC BY 4.0", "ada@example.org"))
    rig.push()
    for line in ("My *own* words.", "Licence: CC BY 4.0", "Contact: ada@example.org"):
        assert line in card_of(rig)
    rig.push(words=CardWords("Others."))
    assert "Others." in card_of(rig) and "CC BY" not in card_of(rig)


def job(tmp_path: Path, table: str) -> Path:
    (tmp_path / "data").mkdir(exist_ok=True)
    path = tmp_path / "job.toml"
    path.write_text(f'[source]\nkind = "folder"\npath = "data"\n[card]\n{table}\n')
    return path


def prepared(path: Path, home: Path, flags: Mapping[str, Any]) -> CardWords | None:
    return prepare(str(path), flags, {"DRIVESHARD_HOME": str(home)}).options.words


def test_words_come_from_a_file_or_a_job_file(tmp_path: Path, home: Path) -> None:
    path = job(tmp_path, 'text = "Hi."\nlicense = "MIT"\ncontact = "me"')
    assert prepared(path, home, {}) == CardWords("Hi.", "MIT", "me")
    (tmp_path / "card.md").write_text("From a file.\n")
    assert prepared(path, home, {"card": tmp_path / "card.md"}) == CardWords("From a file.", "MIT", "me")


def test_bad_words_are_told_before_anything_is_sent(tmp_path: Path, home: Path) -> None:
    with pytest.raises(ConfigError, match=r"\[card\] licens is not known") as error:
        prepared(job(tmp_path, 'licens = "MIT"'), home, {})
    assert "licence" in error.value.advice
    with pytest.raises(ConfigError, match=r"\[card\] text is not a text"):
        prepared(job(tmp_path, "text = 1"), home, {})
    with pytest.raises(SourceMissing, match="cannot be read"):
        prepared(tmp_path / "data", home, {"card": tmp_path / "nope.md"})
    (tmp_path / "card.md").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="not a text"):
        prepared(tmp_path / "data", home, {"card": tmp_path / "card.md"})


def test_a_plain_folder_is_named_by_its_path(rig: Rig, tmp_path: Path) -> None:
    rig.push(to=f"file:{tmp_path}/n a s")
    card = (tmp_path / "n a s" / "my pets" / "README.md").read_text()
    assert f"driveshard ls '{tmp_path}/n a s/my pets'" in card and "Whoever can see this folder" in card
    here = tmp_path / "here"
    here.mkdir()
    (line,) = re.findall("^driveshard cat .*$", card, re.M)
    assert shell(line, here).returncode == 0 and (here / "000.jpg").read_bytes() == FILES["cats/000.jpg"]


def test_labels_of_a_small_dataset_are_counted_whole(rig: Rig, tmp_path: Path) -> None:
    for number in range(60):
        (tmp_path / "source" / f"{number:04d}.cls").write_bytes(b"%d" % (number % 3))
    result = rig.push()
    assert result.parts > 6
    assert "- **cls**: `0` 20, `1` 20, `2` 20" in card_of(rig) and "looked at" not in card_of(rig)


def test_trees_of_composites_are_counted_as_samples(rig: Rig, tmp_path: Path) -> None:
    draw_backgrounds(tmp_path / "bg", 2, seed=1)
    draw_foregrounds(tmp_path / "fg", 3, seed=1)
    more = {"layout": "trees", "background": True, "mask": "png", "mask_threshold": 0, "labels": "both"}
    rig.part_size = 60_000
    source = CompositeSource(tmp_path / "bg", tmp_path / "fg", 96, placements=5, **more)  # type: ignore[arg-type]
    result = rig.push(source, to=f"file:{tmp_path}")
    assert result.parts > 1 and (result.samples, result.files) == (60, 60 * 4 + result.parts)
    card = (tmp_path / "my pets" / "README.md").read_text()
    assert (
        "| `fg_bg_mask.png` | 60 |" in card
        and "| `bg.jpg` | 60 |" in card
        and f"| `table.csv` | {result.parts} |" in card
    )
    assert "| `bg_000` | 30 |" in card and 'key="trees"' in card and "looked at" not in card
    assert "**foreground**: `000_balloon.png` 20, `001_fish.png` 20, `002_mug.png` 20" in card
    assert rig.push(source, to=f"file:{tmp_path}").sent_bytes == 0


def test_labels_of_many_samples_say_how_many_were_looked_at(rig: Rig, tmp_path: Path) -> None:
    rig.part_size = 40_000
    for number in range(300):
        (tmp_path / "source" / f"{number:04d}.cls").write_bytes(b"%d" % (number % 2))
        (tmp_path / "source" / f"{number:04d}.bin").write_bytes(bytes(5000))
    assert rig.push().error is None
    (line,) = re.findall(r"^- \*\*cls\*\*.*$", card_of(rig), re.M)
    assert re.fullmatch(r"- \*\*cls\*\* \(of \d+ samples looked at\): `[01]` \d+, `[01]` \d+", line)
    assert "| `bin` | 300 |" in card_of(rig)
