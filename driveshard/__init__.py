"""driveshard: datasets of very many small files, packed into zip parts and pushed to Google Drive.

    import driveshard

    result = driveshard.push("photos/", name="photos", share="anyone")
    print(result.link)

Everything here is imported when it is first used, so that ``import driveshard`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from driveshard import errors, events
    from driveshard.api import Shared, cat, compact, derive, ls, open, push, share, status, verify  # noqa: A004
    from driveshard.core.errors import DriveshardError
    from driveshard.core.model import Sample
    from driveshard.dataset.dataset import Dataset
    from driveshard.dataset.preview import Preview, preview
    from driveshard.dataset.pull import PullResult, pull
    from driveshard.dataset.reader import Member, Reading
    from driveshard.dataset.stats.result import Stats
    from driveshard.dataset.stats.stats import stats
    from driveshard.dataset.verify import Proof
    from driveshard.dataset.view.view import View, view
    from driveshard.upload.compact import Compacted
    from driveshard.upload.ledger.reader import Record
    from driveshard.upload.result import PushResult

__version__ = "0.1.0"
__all__ = [
    "Compacted",
    "Dataset",
    "DriveshardError",
    "Member",
    "Preview",
    "Proof",
    "PullResult",
    "PushResult",
    "Reading",
    "Record",
    "Sample",
    "Shared",
    "Stats",
    "View",
    "__version__",
    "cat",
    "compact",
    "derive",
    "errors",
    "events",
    "ls",
    "open",
    "preview",
    "pull",
    "push",
    "share",
    "stats",
    "status",
    "verify",
    "view",
]

_HOMES = {
    "Compacted": "driveshard.upload.compact",
    "Dataset": "driveshard.dataset.dataset",
    "DriveshardError": "driveshard.core.errors",
    "Member": "driveshard.dataset.reader",
    "Preview": "driveshard.dataset.preview",
    "Proof": "driveshard.dataset.verify",
    "PullResult": "driveshard.dataset.pull",
    "PushResult": "driveshard.upload.result",
    "Reading": "driveshard.dataset.reader",
    "Record": "driveshard.upload.ledger.reader",
    "Sample": "driveshard.core.model",
    "Shared": "driveshard.api",
    "View": "driveshard.dataset.view.view",
    "Stats": "driveshard.dataset.stats.result",
    "cat": "driveshard.api",
    "compact": "driveshard.api",
    "derive": "driveshard.api",
    "ls": "driveshard.api",
    "open": "driveshard.api",
    "preview": "driveshard.dataset.preview",
    "pull": "driveshard.dataset.pull",
    "push": "driveshard.api",
    "share": "driveshard.api",
    "stats": "driveshard.dataset.stats.stats",
    "status": "driveshard.api",
    "verify": "driveshard.api",
    "view": "driveshard.dataset.view.view",
}
_MODULES = ("errors", "events", "torch")
"""``torch`` is not in ``__all__``, for it needs what is not always installed."""


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"driveshard.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
