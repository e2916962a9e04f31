"""One walk of a tree with os.scandir and stat: the least that finding out about changes can take.

python benchmarks/walk.py DIR
"""

from __future__ import annotations

import os
import sys


def walk(root: str) -> tuple[int, int]:
    """(files, bytes) below a directory."""
    files = size = 0
    directories = [root]
    while directories:
        with os.scandir(directories.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    directories.append(entry.path)
                else:
                    files += 1
                    size += entry.stat(follow_symlinks=False).st_size
    return files, size


if __name__ == "__main__":
    print(*walk(sys.argv[1]))
