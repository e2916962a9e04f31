"""From a source and its options to a run: what the command and ``driveshard.push`` share."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from driveshard.config.card_words import CardWords
from driveshard.config.job_file import JobFile, is_job_file, read_job_file
from driveshard.config.settings import (
    PushOptions,
    Settings,
    push_options,
    read_config,
    read_settings,
    require_home,
)
from driveshard.config.source_argument import open_source
from driveshard.core.errors import ConfigError, UsageError
from driveshard.core.events import Emit, Notice
from driveshard.core.paths import path_of
from driveshard.sources.base import Source
from driveshard.sources.folder import FolderSource
from driveshard.sources.mounts import doubt
from driveshard.upload import run as jobs
from driveshard.upload.pack.apart import takes_any_object
from driveshard.upload.result import PushResult


@dataclass(frozen=True, slots=True)
class Task:
    """One push, ready to run."""

    options: PushOptions
    source: Source
    settings: Settings
    reread: Callable[[], PushOptions]
    """The options as the files say now; raises as ``prepare``."""
    notice: str | None = None

    def question(self) -> str | None:
        """What somebody should be asked before it runs, unless ``yes`` or nothing is sent."""
        if self.options.yes or self.options.dry_run or not isinstance(self.source, FolderSource):
            return None
        return doubt(self.source.root, other_file_systems=self.source.other_file_systems)

    def run(self, emit: Emit) -> PushResult:
        """Errors of the run come back in the result; wrong use, what should have been asked first, and a home that
        cannot be written, raise."""
        if self.notice is not None:
            emit(Notice(self.notice))
        if self.options.dry_run:
            from driveshard.upload.dry_run import rehearse

            return rehearse(self.options, self.source, self.settings, emit)
        question = self.question()
        if question:
            raise UsageError(f"this has to be asked first: {question}?", advice="Add --yes (yes=True) if you mean it.")
        require_home(self.settings.home)
        return jobs.push(self.options, self.source, self.settings, emit)


def prepare(source: str, flags: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> Task:
    """Read config file, job file and environment, and open the source. ``flags`` are parsed, by field name.

    Raises ConfigError, SourceMissing, and UsageError for an empty source and for globs that it cannot use.
    """
    if not source.strip():
        raise UsageError("the source is empty", advice="Name a folder; is a variable in the command not set?")
    given = os.environ if environment is None else environment
    settings, config = read_settings(given)
    job = read_job_file(path_of(source)) if is_job_file(source) else None
    options = push_options(source, flags, job.options if job else {}, config, given)
    opened = (
        job.source(options.include, options.exclude) if job else open_source(source, options.include, options.exclude)
    )
    _read_card(options)
    return Task(options, _fitted(opened, options, flags, job), settings, _reader(source, flags, given, settings))


def _fitted(source: Source, options: PushOptions, flags: Mapping[str, Any], job: JobFile | None) -> Source:
    """The source with the options that are for folders alone. Raises UsageError where there are such and no folder."""
    if isinstance(source, FolderSource):
        return replace(source, other_file_systems=source.other_file_systems or options.other_file_systems)
    _refuse_globs(source, flags, job)
    return source


def _read_card(options: PushOptions) -> None:
    """The owner's words, if they stand in a file of their own."""
    if options.card is not None:
        options.words = (options.words or CardWords()).with_text_of(options.card)


def _reader(
    source: str, flags: Mapping[str, Any], environment: Mapping[str, str], settings: Settings
) -> Callable[[], PushOptions]:
    path = path_of(source).absolute() if is_job_file(source) else None  # the source's code may go to another folder

    def read() -> PushOptions:
        job = read_job_file(path).options if path else {}
        return push_options(source, flags, job, read_config(settings.home)[0], environment)

    return read


def prepare_object(given: Any, flags: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> Task:
    """As ``prepare``, for a source object or for what gives samples: a class, a function, or an object with ``__len__``
    and ``__getitem__``."""
    from driveshard.sources.python.given import given_source

    at_hand = os.environ if environment is None else environment
    settings, config = read_settings(at_hand)
    source, why = (given, getattr(given, "unsendable", None)) if _is_source(given) else given_source(given)
    options = push_options(source.describe(), flags, {}, config, at_hand)
    _read_card(options)

    def reread() -> PushOptions:
        return push_options(source.describe(), flags, {}, read_config(settings.home)[0], at_hand)

    source = _fitted(source, options, flags, None)
    if why is None or takes_any_object(options.engine):
        return Task(options, source, settings, reread)
    notice = f"{source.describe()}: {why}, so parts are built in threads, as by engine threads"
    return Task(replace(options, engine="threads"), source, settings, reread, notice)


def _is_source(given: Any) -> bool:
    return all(hasattr(given, name) for name in ("kind", "describe", "settings", "pack")) and not isinstance(
        given, type
    )


def _refuse_globs(source: Source, flags: Mapping[str, Any], job: JobFile | None) -> None:
    """Globs that were meant for this source, which has no files. Those of the config file and the environment are for
    whatever folder is pushed. Raises UsageError, and ConfigError for a job file."""
    said = f"{source.describe()} is no folder, so include and exclude mean nothing for it"
    advice = "Leave them out, or push a folder."
    if "include" in flags or "exclude" in flags:
        raise UsageError(said, advice=advice)
    if job is not None and ("include" in job.options or "exclude" in job.options):
        raise ConfigError(f"{job.path}: {said}", advice=advice)
