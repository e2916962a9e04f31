"""What a SOURCE names: a directory, the user's own code, or a job file, which describes a source and its options."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from driveshard.config.card_words import words_of_table
from driveshard.config.options import PUSH, RUN, as_toml, in_file, read_values
from driveshard.config.settings import only, read_toml
from driveshard.core.errors import ConfigError, SourceMissing, UsageError
from driveshard.core.paths import path_of
from driveshard.core.similar import near, nearest
from driveshard.sources.base import Source
from driveshard.sources.folder import FolderSource


@dataclass(frozen=True, slots=True)
class JobFile:
    """A job file, read. ``options`` are push options by field name; ``table`` is what describes the source; ``run`` is
    how a run of it is watched."""

    path: Path
    options: Mapping[str, Any]
    table: Mapping[str, Any]
    run: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def source(self, include: tuple[str, ...], exclude: tuple[str, ...]) -> Source:
        """The source it describes; globs are for a folder. Raises ConfigError, UsageError."""
        kinds: Mapping[str, Callable[[], Source]] = {
            "composite": self._composite,
            "folder": lambda: FolderSource(self._path("path"), include, exclude),
            "python": self._python,
        }
        kind = self.table.get("kind", "")
        if not isinstance(kind, str) or kind not in kinds:
            what = f"kind: {as_toml(kind)} is not a kind of source" if kind != "" else "kind is missing"
            raise ConfigError(f"{self.path}: [source] {what}", advice=nearest(str(kind), kinds))
        return kinds[kind]()

    def _composite(self) -> Source:
        from driveshard.sources.composite.source import CompositeSource

        known = [field.name for field in dataclasses.fields(CompositeSource)]
        given = self._with_scale(self._checked([*known, "scale"]))
        for folder in ("backgrounds", "foregrounds"):
            given[folder] = self._path(folder)
        try:
            return CompositeSource(**given)
        except ConfigError as error:
            raise ConfigError(f"{self.path}: [source] {error}", advice=error.advice) from error

    def _with_scale(self, given: dict[str, Any]) -> dict[str, Any]:
        """``scale = [0.3, 0.7]`` as the two bounds that it is short for."""
        if "scale" not in given:
            return given
        scale = given.pop("scale")
        beside = [name for name in ("min_scale", "max_scale") if name in given]
        if beside:
            raise ConfigError(
                f"{self.path}: [source] scale and {' and '.join(beside)} are given, and mean the same",
                advice="Keep scale, or min_scale and max_scale.",
            )
        if not isinstance(scale, list) or len(scale) != 2:
            raise ConfigError(
                f"{self.path}: [source] scale: {as_toml(scale)} is not a smallest and a largest scale",
                advice="Write them as in scale = [0.3, 0.7]; for one scale alone, scale = [0.5, 0.5].",
            )
        return given | {"min_scale": scale[0], "max_scale": scale[1]}

    def _python(self) -> Source:
        from driveshard.sources.python.source import PythonSource
        from driveshard.sources.python.target import Target

        target = self._checked(["target"]).get("target")
        if not isinstance(target, str):
            raise ConfigError(
                f"{self.path}: [source] target is missing",
                advice='Write target = "file.py:callable" or "module:callable".',
            )
        base = self.path.parent.absolute()
        try:
            Target.parse(target, base)
        except UsageError as error:
            raise ConfigError(f"{self.path}: [source] target: {error}", advice=error.advice) from error
        return PythonSource(target, base)

    def _path(self, key: str) -> Path:
        value = self.table.get(key)
        if not isinstance(value, str) or not value or "\0" in value:
            raise ConfigError(
                f"{self.path}: [source] {key} is missing", advice=f'Write {key} = "DIR", relative to the job file.'
            )
        return path_of(value, self.path.parent)

    def _checked(self, known: list[str]) -> dict[str, Any]:
        """The table without ``kind``, its keys spelled as in Python."""
        values = {key.replace("-", "_"): value for key, value in self.table.items() if key != "kind"}
        for key in values:
            if key not in known:
                raise ConfigError(
                    f"{self.path}: [source] {key} is not known for this kind of source", advice=nearest(key, known)
                )
        return values


def read_job_file(path: Path) -> JobFile:
    """Raises SourceMissing when there is no such file or no source in it, ConfigError for what is wrong in it."""
    if not os.path.isfile(path):  # noqa: PTH113
        raise SourceMissing(f"there is no job file {path}", advice=_similar(path) or "Check the path.")
    document = read_toml(path)
    table = document.pop("source", None)
    if not isinstance(table, dict):
        raise SourceMissing(
            f"{path} is not a job file: it has no [source] table", advice='Begin one with [source] and kind = "folder".'
        )
    origin = in_file(path)
    words = document.pop("card") if isinstance(document.get("card"), dict) else None
    options = {"name": path.stem} | read_values(document, (*PUSH, *RUN), origin)
    if table.get("kind") == "folder":
        _check_folder(path, table)
        own = {key: table[key] for key in ("include", "exclude") if key in table}
        options |= read_values(own, PUSH, dataclasses.replace(origin, spell=lambda name: f"{path}: [source] {name}"))
    own_words = {} if words is None else {"words": words_of_table(path, words)}
    return JobFile(path, only(PUSH, options) | own_words, table, only(RUN, options))


def _check_folder(path: Path, table: Mapping[str, Any]) -> None:
    known = ["path", "include", "exclude"]
    for key in table:
        if key not in (*known, "kind"):
            raise ConfigError(f"{path}: [source] {key} is not known for a folder", advice=nearest(key, known))


def is_job_file(text: str) -> bool:
    """Whether a SOURCE is meant as a job file."""
    return text.lower().endswith(".toml") and not os.path.isdir(path_of(text))  # noqa: PTH112


def _similar(path: Path) -> str:
    """A question that names what the user may have meant."""
    try:
        names = os.listdir(path.parent)
    except OSError:
        return ""
    close = near(path.name, names)
    return f"Did you mean {path.parent / close}?" if close else ""
