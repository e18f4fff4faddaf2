"""`safeplan density` from a checkout: python scripts/density.py ..."""

import sys

from safeplan.cli.main import main

if __name__ == "__main__":
    main(["density", *sys.argv[1:]])
