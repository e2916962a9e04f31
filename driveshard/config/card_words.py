"""What a dataset's owner says on its card: from a file of their own, or a job file's ``[card]`` table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from driveshard.core.errors import ConfigError, SourceMissing, UsageError
from driveshard.core.similar import nearest

_MOST = 64 * 1024  # bytes; a card is read, not downloaded
_SPELLINGS = {"license": "licence"}


@dataclass(frozen=True, slots=True)
class CardWords:
    """``text`` is Markdown; ``licence`` and ``contact`` a line each. Empty is not said."""

    text: str = ""
    licence: str = ""
    contact: str = ""

    def with_text_of(self, path: Path) -> CardWords:
        """The same with the words in a file. Raises SourceMissing, and UsageError when it is no text of that kind."""
        try:
            if path.is_file() and path.stat().st_size > _MOST:
                raise UsageError(f"{path} is too large for a card", advice="Keep it below 64 KiB.")
            return replace(self, text=path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n").strip())
        except OSError as error:
            raise SourceMissing(
                f"the card {path} cannot be read: {error.strerror or error}", advice="Check the path given as --card."
            ) from error
        except UnicodeDecodeError as error:
            raise UsageError(f"{path} is not a text in UTF-8", advice="Give --card a Markdown or text file.") from error


def words_of_table(path: Path, table: Mapping[str, Any]) -> CardWords:
    """The ``[card]`` table of the job file at ``path``. Raises ConfigError."""
    values = {}
    for key, value in table.items():
        field = _SPELLINGS.get(key, key)
        if field not in CardWords.__slots__:
            raise ConfigError(f"{path}: [card] {key} is not known", advice=nearest(key, CardWords.__slots__))
        if not isinstance(value, str):
            raise ConfigError(f"{path}: [card] {key} is not a text", advice=f'Write {key} = "...".')
        values[field] = value.strip()
    return CardWords(**values)
