"""``python -m driveshard``."""

import sys

from driveshard.cli import main

if __name__ == "__main__":
    sys.exit(main())
