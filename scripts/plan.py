"""`safeplan plan` from a checkout: python scripts/plan.py ..."""

import sys

from safeplan.cli.main import main

if __name__ == "__main__":
    main(["plan", *sys.argv[1:]])
