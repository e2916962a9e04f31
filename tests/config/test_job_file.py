"""What a SOURCE may be, and every way a job file can be wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from driveshard.cli.demo.objects import draw_backgrounds, draw_foregrounds
from driveshard.config.job_file import read_job_file
from driveshard.config.settings import MIB
from driveshard.config.source_argument import open_source
from driveshard.core.errors import ConfigError, DriveshardError, SourceMissing, UsageError
from driveshard.sources.composite.source import CompositeSource
from driveshard.sources.folder import FolderSource
from driveshard.sources.python.source import PythonSource
from driveshard.upload.push import prepare

COMPOSITE = """
name = "depth"
to = "drive:"
share = "anyone"
part-samples = 4000

[source]
kind = "composite"
backgrounds = "bg"
foregrounds = "fg"
size = 100
placements = 3
flip = false
quality = 40
optimize = true
seed = 9
"""


def write(folder: Path, text: str, name: str = "job.toml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_a_composite_job(tmp_path: Path) -> None:
    draw_backgrounds(tmp_path / "bg", 2, 1)
    draw_foregrounds(tmp_path / "fg", 2, 1)
    task = prepare(str(write(tmp_path, COMPOSITE)), {}, {"DRIVESHARD_HOME": str(tmp_path / "home")})
    source = task.source
    assert isinstance(source, CompositeSource)
    assert (source.backgrounds, source.foregrounds) == (tmp_path / "bg", tmp_path / "fg")
    assert (source.size, source.placements, source.flip, source.quality, source.seed) == (100, 3, False, 40, 9)
    assert len(source) == 12
    assert (task.options.name, task.options.share, task.options.part_samples) == ("depth", "anyone", 4000)


def test_the_later_keys_of_a_composite_job(tmp_path: Path) -> None:
    keys = 'background = true\nmask = "png"\nmask-threshold = 127\nscale = [0.2, 1]\nscale-per = "foreground"\n'
    source = open_source(str(write(tmp_path, COMPOSITE + keys + 'box = "tight"\nlayout = "trees"\nlabels = "both"\n')))
    assert isinstance(source, CompositeSource)
    assert (source.background, source.mask, source.mask_threshold) == (True, "png", 127)
    assert (source.min_scale, source.max_scale, source.scale_per) == (0.2, 1, "foreground")
    assert (source.box, source.layout, source.labels) == ("tight", "trees", "both")


def test_flags_win_over_the_job_file(tmp_path: Path) -> None:
    path = write(tmp_path, 'name = "a"\npart-size = "1M"\n[source]\nkind = "folder"\npath = "x"\ninclude = "*.jpg"\n')
    home = {"DRIVESHARD_HOME": str(tmp_path / "home")}
    plain = prepare(str(path), {}, home)
    assert (plain.options.name, plain.options.part_size) == ("a", MIB)
    assert plain.source == FolderSource(tmp_path / "x", ("*.jpg",))
    given = prepare(str(path), {"name": "b", "include": ("*.png",)}, home)
    assert given.options.name == "b"
    assert given.source == FolderSource(tmp_path / "x", ("*.png",))


def test_a_job_without_a_name_has_the_files(tmp_path: Path) -> None:
    path = write(tmp_path, '[source]\nkind = "folder"\npath = "x"\n', "holiday.toml")
    assert read_job_file(path).options["name"] == "holiday"


def test_a_python_job_looks_beside_the_job_file(tmp_path: Path) -> None:
    source = open_source(str(write(tmp_path, '[source]\nkind = "python"\ntarget = "samples.py:make"\n')))
    assert source == PythonSource("samples.py:make", tmp_path)


@pytest.mark.parametrize(
    ("text", "kind", "said", "advice"),
    [
        ("name = 'x'", SourceMissing, "is not a job file: it has no [source] table", ""),
        ("source = 'photos'", SourceMissing, "is not a job file", ""),
        ("[source]\nkind = 'foldr'\npath = 'x'", ConfigError, 'kind: "foldr" is not a kind of source', "folder"),
        ("[source]\npath = 'x'", ConfigError, "[source] kind is missing", "Known are: composite, folder, python."),
        ("[source]\nkind = 'folder'", ConfigError, "[source] path is missing", ""),
        ("[source]\nkind = 'folder'\npath = 'x'\ninclud = '*'", ConfigError, "includ is not known", "include"),
        ("[source]\nkind = 'folder'\npath = 'x'\ninclude = 3", ConfigError, "[source] include: 3 is not", ""),
        ("[source]\nkind = 'composite'\nforegrounds = 'f'", ConfigError, "[source] backgrounds is missing", ""),
        (COMPOSITE + "placement = 2", ConfigError, "[source] placement is not known", "Did you mean placements?"),
        (COMPOSITE.replace("quality = 40", "quality = 400"), ConfigError, "quality must be a whole number", ""),
        (COMPOSITE.replace("quality = 40", "quality = '40'"), ConfigError, "quality must be a whole number", ""),
        (COMPOSITE + "mask = 'pgn'", ConfigError, 'mask must be "jpg" or "png", not \'pgn\'', "Did you mean png?"),
        (COMPOSITE + "mask_threshold = 255", ConfigError, "mask_threshold must be a whole number from 0 to 254", ""),
        (COMPOSITE + "background = 1", ConfigError, "background must be true or false, not 1", ""),
        (COMPOSITE + "scale_per = 'image'", ConfigError, 'scale_per must be "placement" or "foreground"', "Known are"),
        (COMPOSITE + "box = true", ConfigError, 'box must be "picture" or "tight", not True', "Known are"),
        (COMPOSITE + "layout = 'tree'", ConfigError, 'layout must be "sample" or "trees"', "Did you mean trees?"),
        (COMPOSITE + "labels = 'tabel'", ConfigError, 'labels must be "json" or "table" or "both"', "mean table?"),
        (COMPOSITE + "scale = 0.5", ConfigError, "[source] scale: 0.5 is not a smallest", "scale = [0.5, 0.5]"),
        (COMPOSITE + "scale = [0.7, 0.3]", ConfigError, "0 < min_scale <= max_scale <= 1, not 0.7 and 0.3", ""),
        (COMPOSITE + "scale = ['a', 1]", ConfigError, "min_scale must be a number, not 'a'", ""),
        (COMPOSITE + "scale = [0.3, 0.7]\nmin_scale = 0.2", ConfigError, "scale and min_scale are given", "Keep scale"),
        ("[source]\nkind = 'python'", ConfigError, "[source] target is missing", ""),
        ("[source]\nkind = 'python'\ntarget = 'x'", ConfigError, "[source] target: ", "file.py:callable"),
        (
            "part-sise = 1\n[source]\nkind = 'folder'\npath = 'x'",
            ConfigError,
            "part-sise is not an option",
            "part-size",
        ),
        (
            "part-size = 'big'\n[source]\nkind = 'folder'\npath = 'x'",
            ConfigError,
            "part-size: 'big' is not a size",
            "512MiB",
        ),
        ("[source\n", ConfigError, "is not a TOML file", ""),
    ],
)
def test_mistakes_name_the_file(tmp_path: Path, text: str, kind: type[DriveshardError], said: str, advice: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(kind) as caught:
        open_source(str(path))
    assert type(caught.value) is kind
    assert str(caught.value).startswith(str(path))
    assert said in str(caught.value)
    assert advice in caught.value.advice


def test_forms_of_a_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "odd.toml").mkdir()
    assert open_source("photos", (), ("*.tmp",)) == FolderSource(Path("photos"), (), ("*.tmp",))
    assert open_source("odd.toml") == FolderSource(Path("odd.toml"))
    assert open_source("package.module:make") == PythonSource("package.module:make")
    assert open_source("make.py:samples") == PythonSource("make.py:samples")


@pytest.mark.parametrize(
    ("text", "said", "advice"),
    [
        ("nothing", "there is no folder nothing", "package.module:callable"),
        ("photo", "there is no folder photo", "Did you mean photos?"),
        ("jobs.toml", "there is no job file jobs.toml", "Did you mean job.toml?"),
        ("notes.txt", "notes.txt is a file, not a folder", "Name the folder it is in"),
        ("make.py", "make.py is a Python file", "make.py:CALLABLE"),
        ("data.zip", "data.zip is a zip file", "Unpack"),
        ("C:\\data", "there is no folder C:\\data", ""),
    ],
)
def test_what_is_no_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str, advice: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for name in ("notes.txt", "make.py", "data.zip", "job.toml"):
        (tmp_path / name).touch()
    with pytest.raises(SourceMissing) as caught:
        open_source(text)
    assert str(caught.value) == said or str(caught.value).startswith(said)
    assert advice in caught.value.advice


def test_globs_mean_nothing_for_generated_samples(tmp_path: Path) -> None:
    (tmp_path / "make.py").write_text("def make():\n    return []\n")
    environment = {"DRIVESHARD_HOME": str(tmp_path / "home"), "DRIVESHARD_EXCLUDE": "*.tmp"}
    target = f"{tmp_path / 'make.py'}:make"
    with pytest.raises(UsageError, match="is no folder"):
        prepare(target, {"include": ("*.jpg",)}, environment)
    assert prepare(target, {}, environment).source.kind == "python"


@pytest.mark.parametrize("key", ["include", "exclude"])
@pytest.mark.parametrize(
    "kind", ['kind = "python"\ntarget = "m.py:f"', 'kind = "composite"\nbackgrounds = "b"\nforegrounds = "f"']
)
def test_globs_beside_a_source_without_files_are_refused(tmp_path: Path, key: str, kind: str) -> None:
    path = write(tmp_path, f'{key} = "*.jpg"\n[source]\n{kind}\n')
    with pytest.raises(ConfigError, match="include and exclude mean nothing") as caught:
        prepare(str(path), {}, {"DRIVESHARD_HOME": str(tmp_path / "home")})
    assert str(path) in str(caught.value)


def test_a_name_that_no_file_can_have_is_no_source(tmp_path: Path) -> None:
    for text in ("a" * 300, str(tmp_path / ("b" * 300)), "c" * 5000):
        with pytest.raises(SourceMissing):
            open_source(text)
        with pytest.raises(SourceMissing):
            open_source(f"{text}.toml")
