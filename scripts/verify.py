"""`safeplan verify` from a checkout: python scripts/verify.py ..."""

import sys

from safeplan.cli.main import main

if __name__ == "__main__":
    main(["verify", *sys.argv[1:]])
