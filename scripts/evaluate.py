"""`safeplan evaluate` from a checkout: python scripts/evaluate.py ..."""

import sys

from safeplan.cli.main import main

if __name__ == "__main__":
    main(["evaluate", *sys.argv[1:]])
