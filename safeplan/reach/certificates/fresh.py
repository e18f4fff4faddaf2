"""Samples that took no part in choosing the plan: every draw carries where it comes from, and certificates look.

Commit, then draw: the seed of a certificate's draws is a hash of the finished plan, so those draws do not exist while
plans are compared, and they belong to that plan alone. A plan changed after a look is another plan: it has another
digest, needs draws of its own, and counts as another attempt. What cannot be seen from here, and so is assumed: a look
that the ledger was not told of (a copy of a stream drawn from twice, a second ledger under another root).
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from safeplan.errors import CertificateError, DataError
from safeplan.types import Array

Simulate = Callable[[np.random.Generator, int], Array]  # (rng, n) -> hits [n] or [n, c] of n independent draws

ASSUMES_FRESH = (
    "the draws are independent, from the distribution that the claim is about",
    "every attempt at a certificate was opened from one ledger, whose root was fixed before the first look",
)


def digest(*parts: Array | float | str) -> str:
    """SHA-256 of what makes up a plan, such as the arrays of its reference: the name under which it is certified.

    Raises:
        CertificateError: no parts, or a number that is not finite.
    """
    if not parts:
        raise CertificateError("digest: nothing was given; give the arrays that make up the plan")
    total = hashlib.sha256()
    for i, part in enumerate(parts):
        if isinstance(part, str):
            total.update(f"text {len(part.encode())} {part}".encode())
            continue
        numbers = np.ascontiguousarray(part, np.float64)
        if not np.isfinite(numbers).all():
            raise CertificateError(f"digest: part {i} is not all finite numbers; a plan that holds NaN is none")
        total.update(f"numbers {numbers.shape} ".encode() + (numbers + 0.0).tobytes())  # + 0.0: no negative zero
    return total.hexdigest()


@dataclass(frozen=True)
class Draws:
    """Outcomes `hits [n]` (or `[n, c]`) of draws `start .. start + n` of a stream; `plan` is None in a selection."""

    hits: Array
    stream: str
    seed: int
    plan: str | None
    attempt: int
    start: int


@dataclass(frozen=True)
class Stream:
    """A source of independent draws, `taken` of them so far; `attempt` 0 and `plan` None where plans are compared."""

    name: str
    seed: int
    plan: str | None = None
    attempt: int = 0
    taken: int = 0

    def draw(self, n: int, simulate: Simulate) -> tuple[Draws, "Stream"]:
        """The next `n` draws, and the stream behind them. The batches are part of the stream: 2 x 50 is not 1 x 100.

        Raises:
            CertificateError: n < 1. DataError: outcomes that are not n times hit (true, 1) or miss (false, 0).
        """
        if n < 1:
            raise CertificateError(f"stream {self.name}: n = {n}; at least one draw is taken at a time")
        found = np.asarray(simulate(np.random.default_rng([self.seed, self.taken]), n))
        if found.ndim not in (1, 2) or len(found) != n:
            raise DataError(f"stream {self.name}: outcomes are {found.shape}, expected [{n}] or [{n}, c]")
        if not np.isin(found, (0, 1)).all():
            raise DataError(
                f"stream {self.name}: outcomes hold NaN or numbers beside 0 and 1; count a draw that broke as a hit"
            )
        draws = Draws(found.astype(bool), self.name, self.seed, self.plan, self.attempt, self.taken)
        return draws, replace(self, taken=self.taken + n)


@dataclass(frozen=True)
class Ledger:
    """Which draws a choice has looked at, and how many certificates were tried. Passed in and out, never changed."""

    root: int
    attempts: int = 0
    seen: frozenset[str] = field(default_factory=frozenset)

    def select(self, purpose: str) -> tuple[Stream, "Ledger"]:
        """A stream for comparing plans; its draws are refused by every certificate."""
        name = f"select/{purpose}"
        return Stream(name, _seed(self.root, name)), replace(self, seen=self.seen | {name})

    def open(self, plan: str) -> tuple[Stream, "Ledger"]:
        """The stream of the next attempt (1, 2, ...) at a certificate of the finished plan with this digest."""
        name = f"certify/{self.attempts + 1}/{plan}"
        stream = Stream(name, _seed(self.root, name), plan, self.attempts + 1)
        return stream, replace(self, attempts=self.attempts + 1)

    def looked(self, draws: Draws) -> "Ledger":
        """Say that a choice depends on these draws from now on, such as a repair of the plan after a failed attempt."""
        return replace(self, seen=self.seen | {draws.stream})

    def check(self, source: Draws | Stream, plan: str) -> None:
        """Refuse draws (or a stream) that a certificate of the plan with this digest may not rest on.

        Raises:
            CertificateError: they took part in a selection, belong to another plan, or come from another ledger.
        """
        name = source.stream if isinstance(source, Draws) else source.name
        if source.plan is None or name in self.seen:
            raise CertificateError(
                f"the draws of {name} took part in choosing the plan, so they cannot certify it: open a stream for the "
                "finished plan with Ledger.open(digest(...))"
            )
        if source.plan != plan:
            raise CertificateError(
                f"the draws of {name} belong to plan {source.plan[:12]}, not to {plan[:12]}: a plan that was changed "
                "after they were drawn needs its own, from Ledger.open(digest(...))"
            )
        if source.seed != _seed(self.root, name) or not 1 <= source.attempt <= self.attempts:
            raise CertificateError(
                f"the draws of {name} (attempt {source.attempt}, seed {source.seed}) do not come from this ledger "
                f"(root {self.root}, {self.attempts} attempts): draw them from a stream that it opened"
            )


@dataclass(frozen=True)
class Counts:
    """Hits `k` of the first `n` draws of one stream: whole, in order, each once."""

    stream: str
    n: int = 0
    k: int = 0

    def add(self, draws: Draws) -> "Counts":
        """Counts with the next batch.

        Raises:
            CertificateError: draws of another stream, or a batch left out or counted twice. DataError: not `[n]`.
        """
        if draws.stream != self.stream:
            raise CertificateError(f"draws of {draws.stream} were added to counts of {self.stream}: keep to one stream")
        if draws.start != self.n:
            raise CertificateError(
                f"stream {self.stream}: the batch starts at draw {draws.start}, {self.n} draws are counted so far; "
                "every batch counts, in order and once"
            )
        if draws.hits.ndim != 1:
            raise DataError(f"stream {self.stream}: hits are {draws.hits.shape}, expected one column [n]")
        return Counts(self.stream, self.n + len(draws.hits), self.k + int(draws.hits.sum()))


def _seed(root: int, name: str) -> int:
    """A 62-bit seed that depends on every bit of root and name."""
    return int.from_bytes(hashlib.sha256(f"{root} {name}".encode()).digest()[:8], "big") >> 2
