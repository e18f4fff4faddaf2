"""Files from the network: resumed where the connection dropped, checked by SHA-256, there whole or not at all."""

import hashlib
import os
import re
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from safeplan.errors import DataError

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
    part = path.with_name(f"{path.name}.part")
    print(f"downloading {url}", flush=True)
    named = _fetch(url, part, remedy)
    expected, got = sha256 or named, file_sha256(part)
    if not expected:
        print(f"{url}: nothing to check it against, SHA-256 is {got}", flush=True)
    elif got != expected:
        part.unlink()
        raise DataError(f"{url}: SHA-256 is {got}, expected {expected}. Try again later")
    os.replace(part, path)
    return got


def _fetch(url: str, part: Path, remedy: str) -> str:
    """Append to `part` until it is whole, for as long as every connection brings something; the checksum named."""
    with part.open("ab") as out:
        while True:
            before, reason = out.tell(), "the answer stops short"
            try:
                whole, named = _receive(url, out)
                if whole:
                    return named
            except (OSError, HTTPException) as e:
                reason = getattr(e, "reason", "") or str(e) or type(e).__name__
            if out.tell() <= before:
                break
    if not part.stat().st_size:
        part.unlink()
    raise DataError(f"{url} cannot be downloaded ({reason}). {remedy}")


def _receive(url: str, out: IO[bytes]) -> tuple[bool, str]:
    """One connection: append what is missing; whether the file is whole now, and the checksum that the server names."""
    have, redirects = out.seek(0, os.SEEK_END), _Redirects()
    request = Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer: Any = build_opener(redirects).open(request, timeout=TIMEOUT)
    except HTTPError as e:
        if e.code != 416 or not have:  # 416: nothing begins there, so the part is of something else
            raise
        out.truncate(0)
        return _receive(url, out)
    with answer:
        if have and answer.status != 206:  # a server that always begins at the beginning
            out.truncate(0)
        length = answer.headers.get("Content-Length")
        whole = None if length is None else out.seek(0, os.SEEK_END) + int(length)
        named = re.sub(r'^(W/)?"|"$', "", redirects.linked or answer.headers.get(LINKED, ""))
        while piece := answer.read(CHUNK):
            out.write(piece)
    return whole is None or out.tell() == whole, named if re.fullmatch(r"[0-9a-f]{64}", named) else ""
