"""The figures of a dataset, as ``driveshard.stats`` gives them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from driveshard.dataset.stats.figures import Figures


@dataclass(frozen=True, slots=True)
class Stats:
    """The figures of a dataset. ``samples``, ``files``, ``bytes`` (unpacked) and the counts and sizes of ``fields`` are
    of all of it; images and labels are those of ``looked_at`` samples, which are all but with ``sample``.

    ``fields``: by name ``count``, ``bytes``, ``smallest``, ``largest``, ``mean`` (bytes), ``histogram`` (of bytes: up
    to so many, how many) and, for images, ``images``: ``count``, ``broken``, ``width`` and ``height`` (least, most),
    ``sizes`` (``"200x100"``: how many), ``modes``, and ``channels``: by name ``mean``, ``std``, ``min``, ``max`` in
    [0, 1] over all ``pixels``, and ``levels``, which counts them in 256 steps. For numpy arrays (``.npy``) ``arrays``:
    ``count``, ``broken``, ``shapes`` (``"480x640"``: how many), ``types``, and of all ``values`` together ``mean``,
    ``std``, ``min``, ``max`` in their own units, None without any; ``left_out`` are those that are no finite numbers.

    ``labels``: by field and place (``objects[].class``, or the column of a table) how often each value is there;
    ``numbers``: by field and place ``count``, ``mean``, ``std``, ``min``, ``max``. ``broken``: members that could not
    be read, and why, the first hundred; ``broken_count``: all of them.
    """

    name: str
    parts: int
    samples: int
    looked_at: int
    files: int
    bytes: int
    fields: dict[str, Figures]
    labels: dict[str, dict[str, dict[str, int]]]
    numbers: dict[str, dict[str, Figures]]
    broken: list[dict[str, str]]
    broken_count: int

    def as_json(self) -> dict[str, Any]:
        """As ``stats --json`` prints it."""
        return asdict(self)
