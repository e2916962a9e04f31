"""``driveshard.push``, and what it shares with the command: from a source and its options to a run."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from driveshard.config.job_file import JobFile, is_job_file, read_job_file
from driveshard.config.options import KEYWORDS, PUSH, read_values
from driveshard.config.settings import PushOptions, Settings, push_options, read_settings, require_home
from driveshard.config.source_argument import open_source
from driveshard.core.errors import ConfigError, UsageError
from driveshard.core.events import Emit, ignore
from driveshard.core.paths import path_of
from driveshard.sources.base import Source
from driveshard.upload import run as jobs
from driveshard.upload.result import PushResult


@dataclass(frozen=True, slots=True)
class Task:
    """One push, ready to run."""

    options: PushOptions
    source: Source
    settings: Settings

    def run(self, emit: Emit) -> PushResult:
        """Errors of the run come back in the result; wrong use, and a home that cannot be written, raise."""
        if self.options.dry_run:
            from driveshard.upload.dry_run import rehearse

            return rehearse(self.options, self.source, self.settings, emit)
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
    if opened.kind != "folder":
        _refuse_globs(opened, flags, job)
    return Task(options, opened, settings)


def _refuse_globs(source: Source, flags: Mapping[str, Any], job: JobFile | None) -> None:
    """Globs that were meant for this source, which has no files. Those of the config file and the environment are for
    whatever folder is pushed. Raises UsageError, and ConfigError for a job file."""
    said = f"{source.describe()} is no folder, so include and exclude mean nothing for it"
    advice = "Leave them out, or push a folder."
    if "include" in flags or "exclude" in flags:
        raise UsageError(said, advice=advice)
    if job is not None and ("include" in job.options or "exclude" in job.options):
        raise ConfigError(f"{job.path}: {said}", advice=advice)


def push(
    source: str | os.PathLike[str],
    *,
    to: str | None = None,
    name: str | None = None,
    part_size: int | str | None = None,
    part_samples: int | None = None,
    temp: str | os.PathLike[str] | None = None,
    temp_limit: int | str | None = None,
    workers: int | None = None,
    uploads: int | None = None,
    share: str | None = None,
    include: str | Iterable[str] | None = None,
    exclude: str | Iterable[str] | None = None,
    bwlimit: int | str | None = None,
    max_transfer: int | str | None = None,
    writes_per_second: float | None = None,
    engine: str | None = None,
    recreate: bool | None = None,
    checksum: bool | None = None,
    dry_run: bool | None = None,
    wait: bool | None = None,
    on_event: Emit = ignore,
) -> PushResult:
    """Pack ``source`` and upload it; the same call again finishes the job, or adds what is new.

    ``source`` and the options are those of ``driveshard push``, sizes as bytes or as text (``"64MiB"``); what is left
    out comes from the environment, the job file and the config file. ``on_event`` is called with the values of
    ``driveshard.events``, from any thread. Files that could not be read are in the result's ``failed``.

    Raises a DriveshardError when the dataset is not complete; the message says why, its ``advice`` what to do.
    """
    arguments = dict(locals())
    given = {option.name: _plain(arguments[option.field]) for option in PUSH if arguments[option.field] is not None}
    result = prepare(os.fspath(source), read_values(given, PUSH, KEYWORDS)).run(on_event)
    if result.error is not None:
        raise result.error
    return result


def _plain(value: Any) -> Any:
    """Paths and iterables as the table of options reads them."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value if isinstance(value, str | int | float) else list(value)
