"""Files from the network: resumed where the connection dropped, checked by SHA-256, there whole or not at all."""

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from safeplan.errors import DataError

try:
    import fcntl
except ImportError:  # Windows: no lock, so one process only
    fcntl = None

TIMEOUT = 30.0  # s without a byte
CHUNK = 1 << 20  # bytes
LINKED = "X-Linked-Etag"  # Hugging Face: SHA-256 of a large file, in quotes, on the redirect to where the file lies


class _Redirects(HTTPRedirectHandler):
    """Follows redirects and keeps the checksum that one of them names."""

    linked = ""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        self.linked = headers.get(LINKED, self.linked)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def download(url: str, path: str | Path, *, sha256: str = "", remedy: str = "Try again later") -> str:
    """Bring `url` to `path`; what an earlier attempt left in `NAME.part` beside it is not fetched again.

    Of several processes that ask for one file the first fetches it, the others wait. A part is only gone on with where
    something tells that it is of the same file: a checksum, or the version that the server named (`NAME.part.version`).

    Args:
        url: http, https or file.
        sha256: the checksum expected; empty: the one that the server names, if any.
        remedy: what to do where there is no network, as a sentence without its full stop.

    Returns:
        SHA-256 of the file.

    Raises:
        DataError: not reachable, refused, or cut short (the part is kept); or the checksum differs (it is removed).
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part, there = path.with_name(f"{path.name}.part"), path.is_file()
    version = part.with_name(f"{part.name}.version")
    print(f"downloading {url}", flush=True)
    with _alone(part) as out:
        if path.is_file() and not there and sha256.lower() in ("", got := file_sha256(path)):
            _close(out)
            part.unlink()  # another process has brought it meanwhile
            return got
        named = _fetch(url, part, out, version, bool(sha256), remedy)
        _close(out)
        expected, got = sha256.lower() or named, file_sha256(part)
        version.unlink(missing_ok=True)
        if not expected:
            print(f"{url}: nothing to check it against, SHA-256 is {got}", flush=True)
        elif got != expected:
            part.unlink()
            raise DataError(f"{url}: SHA-256 is {got}, expected {expected}. Try again later")
        os.replace(part, path)
    return got


def _close(out: IO[bytes]) -> None:
    """Where there are no locks: no open file can be renamed there either."""
    if fcntl is None:
        out.close()


@contextmanager
def _alone(part: Path) -> Iterator[IO[bytes]]:
    """`part` open for appending, while no other process has it so."""
    while True:
        with part.open("ab") as file:
            if fcntl is not None:
                with suppress(OSError):  # a file system without locks
                    fcntl.flock(file, fcntl.LOCK_EX)
            try:
                same = os.path.samestat(os.fstat(file.fileno()), part.stat())
            except FileNotFoundError:  # whoever had it is done with it
                same = False
            if same:
                yield file
                return


def _fetch(url: str, part: Path, out: IO[bytes], version: Path, known: bool, remedy: str) -> str:
    """Append to `part` until it is whole, for as long as every connection brings something; the checksum named.

    Args:
        known: there is a checksum to compare with at the end.
    """
    while True:
        before, reason = out.seek(0, os.SEEK_END), "the answer stops short"
        try:
            whole, named = _receive(url, out, version, known)
            if whole:
                out.flush()
                return named
        except (OSError, HTTPException) as e:
            reason = getattr(e, "reason", "") or str(e) or type(e).__name__
        known = known or before == 0 or out.tell() < before  # what this run has begun is one file
        if out.tell() <= before:
            break
    out.flush()
    if not part.stat().st_size:
        part.unlink()
        version.unlink(missing_ok=True)
    raise DataError(f"{url} cannot be downloaded ({reason}). {remedy}")


def _receive(url: str, out: IO[bytes], version: Path, known: bool) -> tuple[bool, str]:
    """One connection: append what is missing; whether the file is whole now, and the checksum that the server names."""
    have, redirects = out.seek(0, os.SEEK_END), _Redirects()
    tag = version.read_text(errors="replace") if have and version.is_file() else ""
    tag = tag if tag.isascii() and tag.isprintable() else ""
    headers = {"Range": f"bytes={have}-"} if have else {}
    try:
        answer: Any = build_opener(redirects).open(
            Request(url, headers=headers | ({"If-Range": tag} if tag else {})), timeout=TIMEOUT
        )
    except HTTPError as e:
        if e.code != 416 or not have:
            raise
        named = _checksum(redirects.linked or e.headers.get(LINKED, ""))
        if e.headers.get("Content-Range") == f"bytes */{have}" and (known or tag or named):
            return True, named  # all of it is there
        out.truncate(0)  # nothing begins there, so the part is of something else
        return _receive(url, out, version, known)
    with answer:
        named = _checksum(redirects.linked or answer.headers.get(LINKED, ""))
        if have and answer.status == 206:
            begins = answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
            other = tag and answer.headers.get("ETag", tag) != tag and tag.startswith('"')
            if not begins or other or not (known or tag or named):
                out.truncate(0)  # nothing tells that what is there is of the same file
                return _receive(url, out, version, known)
        if answer.status != 206:  # a server that begins at the beginning: without ranges, or with a newer file
            out.truncate(0)
            tag = answer.headers.get("ETag", "")
            tag = answer.headers.get("Last-Modified", "") if not tag or tag.startswith("W/") else tag
            version.unlink(missing_ok=True)
            if tag:
                version.write_text(tag)
        length = answer.headers.get("Content-Length")
        whole = None if length is None else out.seek(0, os.SEEK_END) + int(length)
        while piece := answer.read(CHUNK):
            out.write(piece)
    return whole is None or out.tell() == whole, named


def _checksum(etag: str) -> str:
    """SHA-256 out of an ETag; empty where it is something else."""
    found = re.sub(r'^(W/)?"|"$', "", etag)
    return found if re.fullmatch(r"[0-9a-f]{64}", found) else ""
