"""`safeplan train` from a checkout: python scripts/train.py ..."""

import sys

from safeplan.cli.main import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
