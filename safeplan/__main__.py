"""`python -m safeplan`: the same as the console script."""

from safeplan.cli.main import main

if __name__ == "__main__":
    main()
