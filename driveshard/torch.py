"""``driveshard.torch``: what PyTorch needs beside ``driveshard.Dataset``, which its DataLoader takes as it is.

Needs ``pip install driveshard[torch]``.
"""

from __future__ import annotations

from driveshard.dataset.torch import Sampler

__all__ = ["Sampler"]
