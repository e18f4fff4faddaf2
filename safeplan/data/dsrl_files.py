"""The files of the DSRL tasks [dsrl]: found in their folder, or downloaded there, and read as logs."""

import os
from pathlib import Path

from safeplan.data.catalog import DATA
from safeplan.data.download import download, file_sha256
from safeplan.data.dsrl import find_task
from safeplan.data.hdf5 import Log, read_log
from safeplan.errors import DataError

FOLDER = "DSRL_DATASET_DIR"  # environment variable, dsrl's own; default ~/.dsrl/datasets as there
# since November 2025; the host in dsrl 0.1.0, data.offline-saferl.org, is gone. Names of files are the same
ADDRESS = "https://huggingface.co/datasets/YYY-45/DSRL/resolve/main/"


def folder() -> Path:
    """Where the files are looked for first, and kept."""
    return Path(os.environ.get(FOLDER) or Path.home() / ".dsrl" / "datasets")


def locate_file(file: str) -> Path:
    """A file in `folder()`, else in `$SAFEPLAN_DATA` or `dsrl/` there; where it would be kept, when it is nowhere."""
    own = os.environ.get(DATA)
    elsewhere = [Path(own) / file, Path(own) / "dsrl" / file] if own else []
    return next((p for p in (folder() / file, *elsewhere) if p.is_file()), folder() / file)


def fetch(name: str, *, address: str = ADDRESS) -> Path:
    """The file of a task, downloaded into the folder when it is nowhere yet.

    A download is checked against the server's checksum, which is kept beside it as `FILE.sha256` (`sha256sum -c` reads
    it) for `check`. A file that somebody else put into the folder is taken as it is.

    Args:
        name: a task ("BallCircle") or its id in gymnasium.
        address: the folder on the network, with its last slash.

    Raises:
        DataError: an unknown name; no network; the checksum differs.
    """
    file = find_task(name).file
    path = locate_file(file)
    if not path.is_file():
        remedy = (
            f"Where there is a network, put {file} from {ADDRESS} into a folder, then set the environment variable "
            f"{FOLDER} to it (now {folder()}; {DATA} is looked into as well)"
        )
        note = path.with_name(f"{file}.sha256")
        note.unlink(missing_ok=True)  # of a file that is no longer there
        got = download(address + file, path, remedy=remedy)
        temp = note.with_name(f".{note.name}.{os.getpid()}.tmp")
        temp.write_text(f"{got}  {file}\n")
        os.replace(temp, note)
    return path


def check(path: str | Path) -> bool:
    """Compare a file with the checksum kept beside it; False when there is none.

    Raises:
        DataError: they differ: the file is damaged, or is no longer the one that was downloaded.
    """
    path = Path(path)
    note = path.with_name(f"{path.name}.sha256")
    if not note.is_file():
        return False
    kept, got = note.read_text().split(maxsplit=1)[0], file_sha256(path)
    if got != kept:
        raise DataError(f"{path}: SHA-256 is {got}, {note.name} says {kept}. Remove both to download it again")
    return True


def load_task(name: str, *, address: str = ADDRESS) -> Log:
    """The log of a task, fetched and checked; errors are those of `fetch`, `check` and `read_log`."""
    path = fetch(name, address=address)
    check(path)
    return read_log(path)
