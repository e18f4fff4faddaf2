"""The console script `safeplan`: finds the command, leaves the rest to it."""

import os
import sys
from collections.abc import Iterable, Sequence
from importlib import import_module

from safeplan import __version__
from safeplan.cli.app import fail, launch, split
from safeplan.errors import SafeplanError
from safeplan.schema import did_you_mean

COMMANDS = {
    "plan": "drive a vehicle safely to its goal; picture, animation, plan.json and a verdict",
    "train": "train a policy on logs; the same command again resumes",
    "evaluate": "closed-loop study of planners on the same seeds; resumable",
    "sample": "draw images of given classes with any guidance chain",
    "density": "where a system can be: how its density evolves, and how exact a probability is",
    "data": "logs of your own: data check | data import | data estimate",
    "verify": "recompute the certificates in a plan.json",
    "info": "versions, devices, shipped weights",
}
PARTS = {  # commands that are made of several
    "data": {
        "check": "find all faults of a log, show what is in it",
        "import": "turn CSV, NPZ, D4RL or Minari into a log",
        "estimate": "what a policy would return and cost, from a log alone",
    }
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


def overview(command: str) -> str:
    """Help of a command that is made of several."""
    rows = "\n".join(f"  {command} {name:<10} {what}" for name, what in PARTS[command].items())
    head = f"usage: safeplan {command} {'|'.join(PARTS[command])} [key=value ...] [flags]"
    return "\n\n".join([head, rows, f"Help:  safeplan {command} {next(iter(PARTS[command]))} --help"])


def known(what: str, word: str, words: Iterable[str]) -> str:
    """`word`, if it is one of `words`; else leave with an error that names them."""
    if word not in words:
        fail("", f"unknown command {what + word!r}.{did_you_mean(word, words)} Commands: {', '.join(words)}")
    return word


def main(argv: Sequence[str] | None = None) -> None:
    """Run `safeplan *argv` (default: the process's own arguments)."""
    args = list(sys.argv[1:] if argv is None else argv)
    if not args or args[0] in ("-h", "--help", "help"):
        print(usage())
        return
    if args[0] in ("-V", "--version"):
        print(__version__)
        return
    command, rest = known("", args[0], COMMANDS), args[1:]
    if command in PARTS:
        if not rest or rest[0] in ("-h", "--help", "help"):
            print(overview(command))
            return
        command, rest = f"{command} {known(f'{command} ', rest[0], PARTS[command])}", rest[1:]
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if command not in ("train", "sample"):  # small matrices: more threads only wait for each other
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    module = import_module(f"safeplan.cli.{command.replace(' ', '_')}")
    if "-h" in rest or "--help" in rest:
        from safeplan.cli.help import text

        print(text(command, module.__doc__ or "", module.Config, module.nested(rest)))
        return
    flags, overrides = split(rest)
    try:
        words = module.arguments(overrides)
    except SafeplanError as e:
        fail(command, str(e))
    launch(command, module.run, [*flags, *words])
