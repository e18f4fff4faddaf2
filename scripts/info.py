"""`safeplan info` from a checkout: python scripts/info.py ..."""

import sys

from safeplan.cli.main import main

if __name__ == "__main__":
    main(["info", *sys.argv[1:]])
