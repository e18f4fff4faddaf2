"""What all commands share: Hydra, one clear error instead of a traceback, a last line that says where results are."""

import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from safeplan.errors import ConfigError, SafeplanError

Task = Callable[[Any, Path], str]  # settings, output folder -> what to say last


def fail(command: str, message: str) -> NoReturn:
    """Print one error and leave with status 2."""
    print(f"safeplan {command}: error: {message}", file=sys.stderr)
    raise SystemExit(2)


def quote(value: str) -> str:
    """`value` as Hydra's override grammar takes it: backslashes count only in front of a quote."""
    return "'" + re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), value) + "'"


VALUED = ("--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd")


def split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Flags (with their values) and overrides, which Hydra wants in one piece."""
    flags, overrides, rest = [], [], list(argv)
    while rest:
        a = rest.pop(0)
        if not a.startswith("-"):
            overrides.append(a)
            continue
        flags.append(a)
        if a in VALUED and rest:
            flags.append(rest.pop(0))
    return flags, overrides


def shown(path: Path) -> str:
    """`path` as the user would type it: from the working directory when it lies below."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def unwritable(error: BaseException) -> str | None:
    """What went wrong with a file or folder that the system refuses, such as the run's; None for other errors."""
    if not isinstance(error, OSError) or error.filename is None:
        return None
    return (
        f"{error.filename}: {error.strerror}. Results go to the run's folder: "
        "give one that may be written, with hydra.run.dir=FOLDER (with -m: hydra.sweep.dir=FOLDER)"
    )


def value_of(argv: Sequence[str], key: str) -> str | None:
    """What the last override of `key` in `argv` says, without quotes."""
    found = [a.partition("=")[2] for a in argv if a.partition("=")[0] == key]
    return found[-1].strip("'\"") if found else None


def bare(key: str, argv: Sequence[str]) -> list[str]:
    """`argv` with a bare path as `key=PATH`; ConfigError: several of them."""
    paths = [a for a in argv if not a.startswith("-") and ("=" not in a or Path(a).exists())]
    if len(paths) > 1:
        raise ConfigError(f"{len(paths)} paths are given, {', '.join(paths)}: one at a time")
    return [f"{key}={quote(a)}" if "=" not in a or Path(a).exists() else a for a in argv]


def named(prefix: str, key: str, argv: Sequence[str]) -> list[str]:
    """The same, and the run named `PREFIX_STEM` after the file that `key` gives."""
    words = bare(key, argv)
    path = value_of(words, key)
    if path and value_of(words, "name") is None:
        words.append(f"name={quote(f'{prefix}_{stem(path)}')}")
    return words


def stem(path: str) -> str:
    """A file's name without its end, as part of the name of a run."""
    return re.sub(r"[^\w.-]+", "_", Path(path).stem)


def launch(command: str, task: Task, argv: Sequence[str]) -> None:
    """Run `task` under Hydra with the overrides and flags `argv`; `command` as the user types it, `data check` say."""
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    from safeplan import build
    from safeplan.cli.complain import explain, refuse_extras

    config = command.replace(" ", "_")
    build.register(config)

    def job(cfg: Any) -> None:
        try:
            OmegaConf.resolve(cfg)
            refuse_extras(cfg)
            last = task(OmegaConf.to_object(cfg), Path(HydraConfig.get().runtime.output_dir))
        except SafeplanError as e:  # leaving here keeps Hydra from printing its own error as well
            fail(command, str(e))
        except Exception as e:
            text = explain(e)
            if text is None:
                raise
            fail(command, text)
        print(last, flush=True)

    before = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv = [f"safeplan {command}", *argv]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come to us instead of being printed
    try:
        hydra.main(config_path="pkg://safeplan.configs", config_name=config, version_base="1.3")(job)()
    except Exception as e:
        text = explain(e) or unwritable(e)
        if text is None:
            raise
        fail(command, text)
    except KeyboardInterrupt:
        print(f"\nsafeplan {command}: interrupted. What is done is kept; the same command goes on", file=sys.stderr)
        raise SystemExit(130) from None
    finally:
        sys.argv = before[0]
        if before[1] is None:
            os.environ.pop("HYDRA_FULL_ERROR", None)
        else:
            os.environ["HYDRA_FULL_ERROR"] = before[1]
