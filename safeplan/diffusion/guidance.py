"""The guidance protocol. Every method works on x0, is immutable, and carries its state in and out.

A method names the evaluations that it needs (`Branch`); the executor runs the union of all, batched; then each method
folds its correction into `Guided(x0, anchor)`: x0 is where the step aims, anchor defines the noise direction.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from safeplan.diffusion.cond import Cond
from safeplan.diffusion.denoiser import Prediction
from safeplan.errors import CapabilityError


class Paper(NamedTuple):
    """Where a method comes from. authors, venue, arxiv: empty where unknown."""

    key: str
    authors: str
    title: str
    venue: str
    arxiv: str = ""

    def cite(self, where: str = "") -> str:
        """One line; `where`: the equation, algorithm or rule that is followed."""
        head = f"{self.key}, {where}" if where else self.key
        parts = (self.authors, self.title, self.venue, f"arXiv:{self.arxiv}" if self.arxiv else "")
        return " ".join((f"[{head}]", *(f"{part}." for part in parts if part)))


class Guided(NamedTuple):
    """Two fields `[B, ...]`. Ordinary guidance moves both; CFG++ and projections move the aim only."""

    x0: Tensor
    anchor: Tensor

    def shift(self, d: Tensor) -> "Guided":
        """Move both fields: a change of score. Fields that are one tensor stay one."""
        x0 = self.x0 + d
        return Guided(x0, x0 if self.x0 is self.anchor else self.anchor + d)

    def aim(self, d: Tensor) -> "Guided":
        """Move the aim, keep the noise direction."""
        return Guided(self.x0 + d, self.anchor)

    def swap(self) -> "Guided":
        """Exchange the fields, as inversion does."""
        return Guided(self.anchor, self.x0)

    def collapse(self, rho: float) -> Tensor:
        """The single field with the same first-order step, rho = sigma'/sigma < 1."""
        return self.x0 if self.x0 is self.anchor else (self.x0 - rho * self.anchor) / (1 - rho)


@dataclass(frozen=True)
class Branch:
    """One evaluation of one network.

    cond: key into the run's conditions, or `f(predictions, ctx) -> Cond`: a late branch, evaluated after the others.
    net: key into the run's networks. perturb: for example ("pag", 3, 5). rows: bool `[B]`, the rows that need it
    (None: all); rows that nobody asks for hold the main prediction, so that differences vanish there.
    """

    cond: str | Callable[["Predictions", "Context"], Cond] = "cond"
    net: str = "main"
    perturb: tuple = ()
    rows: Tensor | None = field(default=None, compare=False)

    @property
    def key(self) -> "Branch":
        """The same evaluation for all rows: what predictions are filed under."""
        return self if self.rows is None else Branch(self.cond, self.net, self.perturb)

    @property
    def late(self) -> bool:
        return not isinstance(self.cond, str)

    @property
    def requires(self) -> frozenset[str]:
        """Capabilities that the run must offer for it."""
        need = set()
        if isinstance(self.cond, str) and self.cond != "cond":
            need.add("null" if self.cond == "null" else f"cond:{self.cond}")
        if self.net != "main":
            need.add(f"net:{self.net}")
        if self.perturb:
            need.add(f"perturb:{self.perturb[0]}")
        return frozenset(need)


COND = Branch()
NULL = Branch("null")


class Context(NamedTuple):
    """What a method may look at. `a`, `s` are 0-d float64 tensors beside x; `sigma` a Python float, maybe inf.

    conds: name -> Cond ("cond" and "null" always). decode: x0 -> physical units, differentiable. generator: one per
    sample. sigma_next: noise at the end of the step, for methods with a step-size weight. steps: steps in the run.
    sigma_begin: noise at its start; None: `sigma` itself. Correctors look from elsewhere in the step.
    """

    x: Tensor
    a: Tensor
    s: Tensor
    sigma: float
    step: int = 0
    conds: Mapping[str, Cond] = {}
    decode: Callable[[Tensor], Tensor] | None = None
    generator: Sequence[torch.Generator] | None = None
    sigma_next: float = 0.0
    steps: int = 1
    sigma_begin: float | None = None

    @property
    def taken(self) -> float:
        """The noise that the step takes out, sigma^2 - sigma'^2 over the whole step; inf from sigma = inf."""
        return (self.sigma if self.sigma_begin is None else self.sigma_begin) ** 2 - self.sigma_next**2

    def physical(self, x0: Tensor) -> Tensor:
        """`decode(x0)`, or x0 itself where no decoding was given."""
        return x0 if self.decode is None else self.decode(x0)


PullBack = Callable[[Tensor], Tensor]


class Predictions(Mapping[Branch, Prediction]):
    """Branch -> Prediction of one step; with gradients asked for, also the pull-back through the network."""

    def __init__(
        self,
        items: Mapping[Branch, Prediction],
        pulls: Mapping[Branch, PullBack] | None = None,
        memo: dict[int, Any] | None = None,
    ):
        self.items_, self.pulls = dict(items), dict(pulls or {})
        self.memo: dict[int, Any] = {} if memo is None else memo

    def with_(self, more: "Predictions") -> "Predictions":
        """These and those of the late branches; what was worked out once stays so."""
        return Predictions({**self.items_, **more.items_}, {**self.pulls, **more.pulls}, self.memo)

    def once(self, owner: object, work: Callable[[], Any]) -> Any:
        """`work()` of a method, done once a step: for what its late branch and its fold both need."""
        if id(owner) not in self.memo:
            self.memo[id(owner)] = work()
        return self.memo[id(owner)]

    def __getitem__(self, branch: Branch) -> Prediction:
        return self.items_[branch]

    def __contains__(self, branch: object) -> bool:
        return branch in self.items_

    def __iter__(self):
        return iter(self.items_)

    def __len__(self) -> int:
        return len(self.items_)

    def x0(self, branch: Branch | None = None) -> Tensor:
        """x0 of a branch, default COND, `[B, ...]`."""
        return self.items_[COND if branch is None else branch].x0

    def vjp(self, v: Tensor, branch: Branch | None = None) -> Tensor:
        """J^T v with J = d x0(branch) / d x, `[B, ...]`; needs a method in the chain with `grad` true."""
        branch = COND if branch is None else branch
        if branch not in self.pulls:
            raise CapabilityError(f"no gradient was recorded for {branch}; the method must set `grad = True`")
        return self.pulls[branch](v)


class Guidance:
    """Base of all methods. Subclasses are frozen dataclasses; what changes during a run lives in the state."""

    paper: ClassVar[Paper | None] = None
    equation: ClassVar[str] = ""

    @property
    def grad(self) -> bool:
        """Whether it calls `predictions.vjp`."""
        return False

    @property
    def requires(self) -> frozenset[str]:
        """Capabilities it needs: "null", "gradient", "decode", "axis" (x is `[B, H, D]` or more), "net:X", "cond:X",
        "leaf:X", "perturb:X"."""
        return frozenset()

    def init(self, ctx: Context) -> Any:
        """Fresh state for a run (or a resolution stage): tensors of fixed size, Python values, tuples or None."""
        return None

    def needs(self, ctx: Context, state: Any) -> tuple[Branch, ...]:
        """Branches beside COND for this step; decided from `ctx.sigma`, `ctx.step` and the state alone."""
        return ()

    def __call__(self, guided: Guided, predictions: Predictions, ctx: Context, state: Any) -> tuple[Guided, Any]:
        """Fold the correction into `guided`; returns it with the next state."""
        raise NotImplementedError

    def citation(self) -> str:
        """One line: who to cite, and which equation, algorithm or rule of theirs the code follows."""
        if self.paper is None:
            return f"{type(self).__name__}: safeplan"
        return self.paper.cite(self.equation)


def check_capabilities(chain: Sequence[Guidance], offered: frozenset[str]) -> None:
    """CapabilityError that names the method and what it lacks."""
    for m in chain:
        missing = m.requires - offered
        if missing:
            raise CapabilityError(
                f"{type(m).__name__} needs {', '.join(sorted(missing))}, which this network and run do not offer "
                f"(offered: {', '.join(sorted(offered)) or 'nothing'}); drop it from the chain or supply what it needs"
            )


def in_interval(sigma: float, interval: tuple[float, float]) -> bool:
    """Both ends inclusive, so that sigma = inf (flow and cosine at t = 1) lies in (0, inf)."""
    return interval[0] <= sigma <= interval[1]
