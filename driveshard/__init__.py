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
    from driveshard.core.errors import DriveshardError
    from driveshard.core.model import Sample
    from driveshard.dataset.dataset import Dataset
    from driveshard.dataset.pull import PullResult, pull
    from driveshard.upload.push import push

__version__ = "0.1.0"
__all__ = ["Dataset", "DriveshardError", "PullResult", "Sample", "__version__", "pull", "push"]

_HOMES = {
    "Dataset": "driveshard.dataset.dataset",
    "DriveshardError": "driveshard.core.errors",
    "PullResult": "driveshard.dataset.pull",
    "Sample": "driveshard.core.model",
    "pull": "driveshard.dataset.pull",
    "push": "driveshard.upload.push",
}
_MODULES = ("torch",)
"""Not in ``__all__``, for they need what is not always installed."""


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"driveshard.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
