"""What the file system notes of a change besides size and mtime: the time of the inode's last change, and its number.

A program may put a file's mtime back; its ctime (POSIX) moves all the same. Both also move when nothing of the content
did (``chmod``, ``cp -a`` to another disk), so a stamp that differs is a reason to read the file, not to send it.
"""

from __future__ import annotations

import os
import time

CTIME_TELLS = os.name == "posix"
"""Elsewhere st_ctime is when the file was made, which writing does not move: there mtime says how fresh it is."""

_CLOCK_STEP = 2_000_000_000  # nanoseconds: FAT's, the coarsest in use
_SIGNED = 1 << 63
MASK = _SIGNED - 1
_SPREAD = 0x9E3779B1  # an odd number that mixes the inode's number into all digits


class Stamps:
    """The stamps of one look at the files below a folder. ``device`` is the folder's st_dev.

    A file that changed within the file system's last clock step may change again and show the same times: its stamp is
    ``unsettled``, negative and of this look alone, so that the next one reads the file.
    """

    def __init__(self, device: int) -> None:
        # File systems without a disk of their own (network, FUSE, overlay) make up inode numbers at every mount.
        self.factor = _SPREAD if not CTIME_TELLS or os.major(device) else 0
        self.unsettled = -(time.time_ns() & MASK) or -1

    @staticmethod
    def horizon() -> int:
        """What changed later than this (nanoseconds) is unsettled. To be asked before looking."""
        return time.time_ns() - _CLOCK_STEP

    def of(self, status: os.stat_result, horizon: int) -> int:
        """One file's. The scan has the same in line."""
        if (status.st_ctime_ns if CTIME_TELLS else status.st_mtime_ns) > horizon:
            return self.unsettled
        return (status.st_ctime_ns + self.factor * status.st_ino) & MASK


def folded(mtime: int) -> int:
    """A time in nanoseconds as 64 bits hold it: itself, but for years before 1678 or after 2262."""
    return mtime if -_SIGNED <= mtime < _SIGNED else (mtime + _SIGNED) % (2 * _SIGNED) - _SIGNED
