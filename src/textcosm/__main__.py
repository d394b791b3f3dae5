"""``python -m textcosm`` is the command ``textcosm``."""

import sys

from textcosm.cli import main

if __name__ == "__main__":
    sys.exit(main())
