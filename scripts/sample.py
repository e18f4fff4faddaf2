"""`safeplan sample` from a checkout: python scripts/sample.py ..."""

import sys

from safeplan.cli.main import main

if __name__ == "__main__":
    main(["sample", *sys.argv[1:]])
