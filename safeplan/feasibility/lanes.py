"""Where parts of an update run that do not depend on each other."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Lanes:
    """One after the other, in the order of the program."""

    @contextmanager
    def aside(self, name: str, *after: str) -> Iterator[None]:
        """What is inside may run beside what follows; it sees all that came before here and in the lanes `after`."""
        yield

    def wait(self, name: str) -> None:
        """What follows sees all that ran in one lane."""

    def join(self) -> None:
        """What follows sees all that ran aside."""


class StreamLanes(Lanes):
    """Each name on a CUDA stream of its own. Tensors that cross lanes must live until `join`."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.streams: dict[str, torch.cuda.Stream] = {}

    @contextmanager
    def aside(self, name: str, *after: str) -> Iterator[None]:
        if name not in self.streams:
            self.streams[name] = torch.cuda.Stream(self.device)
        stream = self.streams[name]
        for before in (torch.cuda.current_stream(self.device), *(self.streams[k] for k in after)):
            stream.wait_stream(before)
        with torch.cuda.stream(stream):
            yield

    def wait(self, name: str) -> None:
        torch.cuda.current_stream(self.device).wait_stream(self.streams[name])

    def join(self) -> None:
        for name in self.streams:
            self.wait(name)
