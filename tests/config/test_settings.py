"""Where options come from, what wins, and what is said about a mistake in each place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from driveshard.config.options import FLAGS, KEYWORDS, PUSH, SETTINGS, read_environment, read_values
from driveshard.config.settings import MIB, PushOptions, push_options, read_config, settings_from
from driveshard.core.errors import ConfigError, UsageError


def options_of(home: Path, *, flags: Any = (), job: Any = (), environment: Any = ()) -> PushOptions:
    config = read_config(home)[0]
    return push_options("src", read_values(dict(flags), PUSH, FLAGS), dict(job), config, dict(environment))


def test_the_table_has_every_field_of_the_options_once() -> None:
    fields = [field for field in PushOptions.__dataclass_fields__ if field not in ("source", "words")]
    assert sorted(fields) == sorted(option.field for option in PUSH)


@pytest.mark.parametrize(
    ("places", "uploads"),
    [
        ((), 3),
        (("config",), 4),
        (("config", "job"), 5),
        (("config", "job", "env"), 6),
        (("config", "job", "env", "flag"), 7),
    ],
)
def test_each_place_wins_over_the_ones_before(home: Path, places: tuple[str, ...], uploads: int) -> None:
    if "config" in places:
        (home / "config.toml").write_text("uploads = 4\n")
    found = options_of(
        home,
        job={"uploads": 5} if "job" in places else {},
        environment={"DRIVESHARD_UPLOADS": "6"} if "env" in places else {},
        flags={"uploads": "7"} if "flag" in places else {},
    )
    assert found.uploads == uploads


def test_values_of_the_config_file_have_their_types(home: Path) -> None:
    (home / "config.toml").write_text(
        'part-size = "64MiB"\ntemp = "tmp"\ninclude = ["*.jpg", "*.png"]\nwait = true\nwrites-per-second = 2\n'
        'bwlimit = "08:00,512K 18:00,off"\nto = "file:out"\nshare = "domain:example.org"\ntemp_limit = 1048576\n'
    )
    found = options_of(home)
    assert (found.part_size, found.temp_limit, found.wait, found.writes_per_second) == (64 * MIB, MIB, True, 2.0)
    assert found.include == ("*.jpg", "*.png")
    assert found.temp == home / "tmp"
    assert found.to == f"file:{home / 'out'}"
    assert (found.bwlimit, found.share) == ("08:00,512K 18:00,off", "domain:example.org")


def test_the_environment_splits_globs_as_a_shell_does() -> None:
    found = read_environment({"DRIVESHARD_INCLUDE": "*.jpg 'my photos/*'", "DRIVESHARD_EXCLUDE": ""}, PUSH)
    assert found == {"include": ("*.jpg", "my photos/*")}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("part-size", "2Q"),
        ("part-size", "0"),
        ("uploads", "three"),
        ("uploads", "0"),
        ("uploads", "-1"),
        ("writes-per-second", "nan"),
        ("writes-per-second", "0"),
        ("share", "everybody"),
        ("share", "user:nobody"),
        ("to", "dropbox:x"),
        ("bwlimit", "25:00,1M"),
        ("engine", "warp"),
        ("engine", "threads:tcp://a:1"),
        ("engine", "dask:"),
        ("wait", "maybe"),
        ("name", ""),
    ],
)
def test_a_bad_value_is_named_where_it_was_written(home: Path, name: str, value: str) -> None:
    with pytest.raises(UsageError, match=f"^--{name}: "):
        options_of(home, flags={name: value})
    variable = "DRIVESHARD_" + name.replace("-", "_").upper()
    if value:
        with pytest.raises(ConfigError, match=f"^{variable}: "):
            options_of(home, environment={variable: value})
    (home / "config.toml").write_text(f'{name} = "{value}"\n')
    with pytest.raises(ConfigError, match=rf"config\.toml: {name}: "):
        options_of(home)


@pytest.mark.parametrize(
    ("text", "said", "advice"),
    [
        ("upload = 3", "config.toml: upload is not an option", "Did you mean uploads?"),
        ("colour = 'red'", "config.toml: colour is not an option", "Known are: "),
        ("uploads = true", "config.toml: uploads: true is not a whole number above 0", ""),
        ("include = [1]", "config.toml: include: [1] is not a glob or a list of globs", ""),
        ("uploads = ", "config.toml is not a TOML file", ""),
    ],
)
def test_a_mistake_in_the_config_file(home: Path, text: str, said: str, advice: str) -> None:
    (home / "config.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        settings_from({"DRIVESHARD_HOME": str(home)})
    assert said in str(caught.value)
    assert advice in caught.value.advice


def test_a_config_file_that_is_not_utf8(home: Path) -> None:
    (home / "config.toml").write_bytes(b'name = "\xff"')
    with pytest.raises(ConfigError, match=r"config\.toml is not a TOML file"):
        settings_from({"DRIVESHARD_HOME": str(home)})


def test_settings_come_from_file_and_environment(home: Path) -> None:
    (home / "config.toml").write_text(
        'timeout = 5\nretries = 3\nsubject = "ada@example.org"\ncredentials = "my.json"\n'
    )
    found = settings_from(
        {
            "DRIVESHARD_HOME": str(home),
            "DRIVESHARD_DRIVE_URL": "http://127.0.0.1:8765",
            "DRIVESHARD_TIMEOUT": "7.5",
            "DRIVESHARD_THROTTLE_PATIENCE": "60",
        }
    )
    assert found.home == home
    assert found.drive_url == "http://127.0.0.1:8765/"
    assert (found.timeout, found.patience.attempts, found.patience.throttled) == (7.5, 3, 60.0)
    assert found.subject == "ada@example.org"
    assert found.client_file == home / "my.json"


def test_settings_without_anything_set(tmp_path: Path) -> None:
    found = settings_from({"DRIVESHARD_HOME": str(tmp_path / "none")})
    assert (found.drive_url, found.timeout, found.api_key) == (None, 60.0, None)
    assert found.client_file == tmp_path / "none" / "credentials.json"


def test_settings_are_not_flags() -> None:
    assert not {option.name for option in SETTINGS} & {option.name for option in PUSH}
    with pytest.raises(UsageError, match="api_key is not an option"):
        read_values({"api_key": "x"}, PUSH, KEYWORDS)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("part-size", "9999P"), ("max-transfer", "999999999999P"), ("temp-limit", 2**63)),
        *(("uploads", "100000"), ("workers", 2000), ("writes-per-second", "1e-300"), ("writes-per-second", 1e300)),
        *(("bwlimit", "0.5"), ("bwlimit", "08:00,0.1"), ("include", "[z-a]"), ("exclude", ["a", "b[9-0]"])),
        *(("temp", "a\0b"), ("name", "a\0b"), ("to", "file:a\0b")),
    ],
)
def test_a_value_beyond_what_can_be_done_is_refused(name: str, value: Any) -> None:
    with pytest.raises(UsageError) as caught:
        read_values({name: value}, PUSH, FLAGS)
    assert str(caught.value).startswith(f"--{name}: ")


@pytest.mark.parametrize(("name", "value"), [("timeout", "1e300"), ("timeout", 1e-300), ("throttle-patience", "1e200")])
def test_a_wait_that_no_clock_can_do_is_refused(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=r"a number from 0\.001 to"):
        read_values({name: value}, SETTINGS, FLAGS)
