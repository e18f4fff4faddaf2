"""Where parts of an update run that do not depend on each other."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Lanes:
    """One after the other, in the order of the program."""

    @contextmanager
    def aside(self, name: str) -> Iterator[None]:
        """What is inside may run beside what follows until `join`; it sees all that came before."""
        yield

    def join(self) -> None:
        """What follows sees all that ran aside."""


class StreamLanes(Lanes):
    """Each name on a CUDA stream of its own. Tensors that cross lanes must live until `join`."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.streams: dict[str, torch.cuda.Stream] = {}

    @contextmanager
    def aside(self, name: str) -> Iterator[None]:
        if name not in self.streams:
            self.streams[name] = torch.cuda.Stream(self.device)
        stream = self.streams[name]
        stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(stream):
            yield

    def join(self) -> None:
        for stream in self.streams.values():
            torch.cuda.current_stream(self.device).wait_stream(stream)
