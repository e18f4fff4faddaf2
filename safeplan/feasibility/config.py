"""Settings of FISOR: ours by default, `official()` as the authors' code has them, one set for all its tasks [fisor]."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from safeplan.diffusion.paths import FISOR_SCHEDULES
from safeplan.errors import ConfigError
from safeplan.feasibility.select import PICKS
from safeplan.schema import in_range

VIOLATIONS = ("relabel", "column")
PRECISIONS = ("float32", "tf32", "bfloat16")
GRAPHS = ("auto", "on", "off")
FEASIBILITY_LOSSES = ("cross_entropy", "squared")
REWARD_ROWS = ("feasible", "all")
BEFORE = {  # settings that came later, and what the code before them did: for checkpoints without them
    "precision": "float32",
    "graph": "auto",
    "feasibility_loss": "squared",
    "reward_rows": "all",
    "critic_lr": 0.0,
    "lead": 0,
    "recovery": 0.0,
    "condition_dropout": 0.0,
    "returns": 1.0,
    "threshold": 0.0,
    "budget_root": False,
    "normalize_clip": 0.0,
}


@dataclass(frozen=True)
class FisorConfig:
    """Zheng et al., "Safe offline RL with feasibility-guided diffusion model", ICLR 2024.

    Where the default is not that of the official code, its comment says why; `official()` undoes all of them.
    """

    gamma: float = 0.99  # discount of both critics
    tau_reward: float = 0.7  # expectile of V, eq. 4 of IQL (official: 0.9, above any return where critics are young)
    tau_feasible: float = 0.9  # reversed expectile of V_h
    target_rate: float = 0.02  # Polyak step of the target critics (official: 0.005, 200 updates for a step of time)
    ema_rate: float = 0.001  # Polyak step of the acting actor
    lr: float = 3e-4  # Adam, the actor, and the critics where `critic_lr` is 0
    critic_lr: float = 1e-3  # Adam, the critics; 0: `lr` (official)
    feasibility_loss: str = "cross_entropy"  # of V_h and Q_h within the bounds of h | squared (official; any h)
    reward_rows: str = "feasible"  # that V learns from: what the policy would take | all (official)
    actor_decay_steps: int = 3_000_000  # cosine to 0 over so many actor steps; 0 keeps lr constant

    batch: int = 2048  # rows drawn per update
    actor_steps: int = 2  # Adam steps of the actor per update, each on its share of the batch
    critic_rows: int = 0  # first rows of the batch that the critics see; 0: all (official: 256, the others are wasted)
    normalize_weights: bool = True  # weights of a batch to mean 1: its Adam steps do not grow with them (official: no)
    skip_unweighted: bool = True  # rows of weight 0 are not computed; the same gradient for less (official: no)

    hidden: int = 256  # width of the two hidden layers of every critic
    actor_width: int = 256  # width of the actor's residual stream; its blocks are four times as wide
    actor_blocks: int = 3
    dropout: float = 0.1
    condition_dropout: float = 0.0  # share of rows whose return the actor is not told, for CFG on it; 0: it never is
    steps: int = 5  # diffusion steps T
    schedule: str = "vp"  # of their noise: vp | cosine | linear

    violation: str = "relabel"  # h from costs (+violating / -satisfying), or `column`: the log's own h
    violating: float = 25.0  # h of a transition with cost > 0
    satisfying: float = -1.0  # h of a transition without cost
    recovery: float = 0.97  # discount of the time until a violation ends; 0: unused (official, squared)
    lead: int = 0  # steps before a cost that `violating` holds for too, where there is no budget; safer, but narrower
    timeouts_bootstrap: bool = True  # what follows a time-out still counts (official: it ends the return)
    budget: float = 0.0  # largest cost limit served, see `feasibility.budget`; 0: no cost at all is allowed (FISOR)
    budget_root: bool = True  # the networks see the square root of the share that is left: its last units differ most
    scale_rewards: bool = True  # rewards * longest episode / spread of episode returns
    normalize: bool = False  # observations to zero mean and unit variance (not in the official code)
    normalize_clip: float = 5.0  # deviations that they stay within: columns that hardly vary have outliers; 0: any

    cost_temperature: float = 5.0
    reward_temperature: float = 3.0
    cost_clip_low: float = 0.0  # the official `metadrive_imitation` branch uses 1
    cost_clip: float = 150.0
    reward_clip: float = 100.0

    candidates: int = 16  # actions drawn per state
    returns: float = 1.0  # to act for, with `condition_dropout`: share of the log's rows that earn no more
    threshold: float = 0.0  # up to which Q_h counts as feasible when acting; `Calibration.at_most` makes a promise
    pick: str = "maxq_feasible"  # most Q where Q_h <= 0, else least Q_h (official: minqc, least Q_h always) | maxq
    compile: bool = False  # torch.compile the networks
    precision: str = "float32"  # of products in training: float32 | tf32 (GPU) | bfloat16 (the actor's; see `products`)
    graph: str = "auto"  # updates as a CUDA graph, see `graphed`: auto (where there is a GPU) | on | off

    def __post_init__(self) -> None:
        words = {"pick": PICKS, "violation": VIOLATIONS, "precision": PRECISIONS, "graph": GRAPHS}
        words |= {"feasibility_loss": FEASIBILITY_LOSSES, "reward_rows": REWARD_ROWS, "schedule": FISOR_SCHEDULES}
        for name, known in words.items():
            if getattr(self, name) not in known:
                raise ConfigError(f"fisor.{name} is {getattr(self, name)!r}, expected one of {', '.join(known)}")
        in_range(
            self,
            "fisor",
            {
                "inside (0, 1)": "gamma tau_reward tau_feasible",
                "in (0, 1]": "target_rate ema_rate returns",
                "in [0, 1)": "dropout recovery condition_dropout",
                "positive": "lr cost_clip reward_clip",
                "not negative": "cost_temperature reward_temperature cost_clip_low budget critic_lr normalize_clip",
                "finite": "violating satisfying threshold",
                "count": "batch actor_steps hidden actor_width actor_blocks steps candidates",
                "count or 0": "actor_decay_steps critic_rows lead",
            },
        )
        if self.batch % self.actor_steps or self.critic_rows > self.batch:
            raise ConfigError(
                f"fisor.batch is {self.batch}: actor_steps ({self.actor_steps}) must divide it and "
                f"critic_rows ({self.critic_rows}) must not exceed it"
            )
        if self.cost_clip_low > self.cost_clip:
            raise ConfigError(
                f"fisor.cost_clip_low is {self.cost_clip_low}, expected at most cost_clip ({self.cost_clip})"
            )
        if self.budget > 0 and self.violation == "column":
            raise ConfigError("fisor.budget needs costs: it does not go with fisor.violation=column")
        if self.budget > 0 and self.lead > 0:
            raise ConfigError(
                f"fisor.lead is {self.lead} and fisor.budget {self.budget:g}: with a budget no lead is applied: only "
                "overspending it is a violation. Set one of them to 0"
            )
        if self.feasibility_loss == "cross_entropy" and self.violation == "column":
            raise ConfigError(
                "fisor.feasibility_loss=cross_entropy needs bounds of h, and a column has none: use squared with it"
            )
        if not self.satisfying < 0.0 < self.violating:
            raise ConfigError(
                f"fisor.satisfying is {self.satisfying} and violating {self.violating}, expected one below, one above 0"
            )


def unused(settings: Mapping[str, Any]) -> set[str]:
    """Settings that came later and change nothing here: how a budget is seen where there is none, and the like."""
    names = {"budget_root": "budget", "normalize_clip": "normalize"}
    return {name for name, of in names.items() if not settings.get(of)}


def stored(config: FisorConfig) -> dict[str, Any]:
    """What checkpoints keep: what came later is left out where it is as before, so that runs begun before it go on."""
    settings = asdict(config)
    skipped = unused(settings) | {k for k, v in BEFORE.items() if settings[k] == v}
    return {k: v for k, v in settings.items() if k not in skipped}


def restored(settings: Mapping[str, Any]) -> FisorConfig:
    """The inverse of `stored`. Raises TypeError on an unknown setting, ConfigError on a bad one."""
    before = {k: v for k, v in BEFORE.items() if k not in unused(settings)}
    return FisorConfig(**{**before, **settings})


def official(**changes: Any) -> FisorConfig:
    """The official code's settings, with `changes`: its update, sampling and choice to the last bit but rounding."""
    same = {"critic_rows": 256, "normalize_weights": False, "skip_unweighted": False, "timeouts_bootstrap": False}
    same |= {"tau_reward": 0.9, "target_rate": 0.005, "critic_lr": 0.0, "recovery": 0.0}
    same |= {"feasibility_loss": "squared", "reward_rows": "all", "pick": "minqc"}
    return FisorConfig(**{**same, **changes})
