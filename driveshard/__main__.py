"""``python -m driveshard``."""

import os
import sys

# Python puts the current folder first, where a ``queue.py`` may lie among the data; taken away before anything else is
# imported, and put last where driveshard itself lies in it.
if sys.path and not sys.flags.safe_path and os.path.realpath(sys.path[0]) == os.path.realpath(os.curdir):
    _current = sys.path.pop(0)
    if os.path.realpath(os.path.dirname(os.path.dirname(__file__))) == os.path.realpath(os.curdir):  # noqa: PTH120
        sys.path.append(_current)

from driveshard.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
