"""The console script `safeplan`: finds the command, leaves the rest to it."""

import os
import sys
from collections.abc import Sequence
from importlib import import_module

from safeplan import __version__
from safeplan.cli.app import fail, launch, split
from safeplan.schema import did_you_mean

COMMANDS = {
    "plan": "drive a vehicle safely to its goal; picture, animation, plan.json and a verdict",
    "train": "train a policy on logs; the same command again resumes",
    "evaluate": "closed-loop study of planners on the same seeds; resumable",
    "sample": "draw images of given classes with any guidance chain",
    "verify": "recompute the certificates in a plan.json",
    "info": "versions, devices, shipped weights",
}


def usage() -> str:
    """Help of `safeplan` itself."""
    rows = "\n".join(f"  {name:<10} {what}" for name, what in COMMANDS.items())
    parts = [
        f"safeplan {__version__}: safe planning under uncertainty",
        "usage: safeplan COMMAND [key=value ...] [flags]",
        rows,
        "Try:  safeplan plan env=hovercraft seed=0        Help:  safeplan COMMAND --help",
    ]
    return "\n\n".join(parts)


def main(argv: Sequence[str] | None = None) -> None:
    """Run `safeplan *argv` (default: the process's own arguments)."""
    args = list(sys.argv[1:] if argv is None else argv)
    if not args or args[0] in ("-h", "--help", "help"):
        print(usage())
        return
    if args[0] in ("-V", "--version"):
        print(__version__)
        return
    command, rest = args[0], args[1:]
    if command not in COMMANDS:
        fail("", f"unknown command {command!r}.{did_you_mean(command, COMMANDS)} Commands: {', '.join(COMMANDS)}")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if command not in ("train", "sample"):  # small matrices: more threads only wait for each other
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    module = import_module(f"safeplan.cli.{command}")
    if "-h" in rest or "--help" in rest:
        from safeplan.cli.help import text

        print(text(command, module.__doc__ or "", module.Config, module.nested(rest)))
        return
    flags, overrides = split(rest)
    launch(command, module.run, [*flags, *module.arguments(overrides)])
