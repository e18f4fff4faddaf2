"""A web server on this machine that behaves as badly as asked: drops connections, names checksums, refuses ranges."""

import hashlib
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Site:
    """What it serves and how; `asked` collects the path and Range header of every request."""

    files: dict[str, bytes]
    drop_at: dict[str, list[int]] = field(
        default_factory=dict
    )  # per file: bytes after which to hang up, one per answer
    ranges: bool = True
    checksum: str = "right"  # right, wrong or none, on the redirect
    version: str = ""  # ETag of the content; a range is only given to who names it, or names none
    told_length: bool = False  # whether a range that begins at the end is answered with the length
    wrong_range: bool = False  # whether a range is answered with the file from its beginning
    pause: float = 0.0  # s before the content
    redirect: bool = True  # /hub/NAME -> /store/NAME, as Hugging Face does
    asked: list[tuple[str, str]] = field(default_factory=list)
    address: str = ""


@contextmanager
def serve(site: Site) -> Iterator[Site]:
    """Serve `site` at `site.address` inside the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            folder, name = re.fullmatch(r"/(\w+)/(.+)", self.path).groups()
            site.asked.append((folder, self.headers.get("Range", "")))
            body = site.files.get(name)
            if body is None:
                self.send_error(404)
            elif folder == "hub" and site.redirect:
                self.send_response(302)
                self.send_header("Location", f"{site.address.replace('hub', 'store')}{name}")
                self.linked(body)
                self.send_header("Content-Length", "0")
                self.end_headers()
            else:
                self.content(name, body, linked=folder == "hub")

        def linked(self, body: bytes) -> None:
            if site.checksum != "none":
                right = hashlib.sha256(body).hexdigest()
                self.send_header("X-Linked-Etag", f'"{right if site.checksum == "right" else "0" * 64}"')

        def content(self, name: str, body: bytes, linked: bool) -> None:
            start = 0
            time.sleep(site.pause)
            same = self.headers.get("If-Range", site.version) == site.version
            if site.ranges and same and (found := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))):
                start = int(found[1])
                if start >= len(body):
                    self.send_response(416)
                    if site.told_length:
                        self.send_header("Content-Range", f"bytes */{len(body)}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                start = 0 if site.wrong_range else start
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            else:
                self.send_response(200)
            if linked:
                self.linked(body)
            if site.version:
                self.send_header("ETag", site.version)
            self.send_header("Content-Length", str(len(body) - start))
            self.end_headers()
            drops = site.drop_at.get(name)
            self.wfile.write(body[start : drops.pop(0) if drops else None])
            self.close_connection = True

        def log_message(self, format, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    site.address = f"http://127.0.0.1:{server.server_port}/hub/"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
