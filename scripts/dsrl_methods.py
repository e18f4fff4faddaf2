"""What dsrl_table.py compares: methods, suites of tasks, and the jobs that these make. Import it, do not run it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import import_module
from typing import Any

SMALL: dict[str, Any] = {"batch": 256, "actor_steps": 1, "actor_width": 128, "actor_decay_steps": 0}
# rivals too are made for the CPU time there is: at their authors' sizes these fail most gates (rival_gates.py) in it.
# Chosen by the gate on one or two tasks, with seed 7 and other episodes; COptiDICE fails there all the same
SMALL_CPQ = {"batch": 256, "actor_hidden": 256, "critic_hidden": 256, "cvae_hidden": 256, "actor_lr": 3e-4}
SMALL_COPTIDICE = {"batch": 256, "actor_lr": 1e-3, "critic_lr": 1e-3, "alpha": 0.02}
SMALL_CDT = {"batch": 64, "width": 64, "blocks": 2, "heads": 4, "lr": 5e-4, "warmup": 100}


@dataclass(frozen=True)
class Method:
    """How a row is made. `train`: settings of a FISOR of its own; `of`: the method whose FISOR it acts with."""

    train: dict[str, Any] | None = None
    official: bool = False
    of: str = ""
    rival: str = ""  # name in baselines.offline
    settings: dict[str, Any] = field(default_factory=dict)  # of the rival
    act: str = ""  # what differs: minqc | guided | steered | returns | returns_guided | one_step | calibrated | reserve
    candidates: int = 0  # actions drawn per state; 0: as many as the policy draws by itself
    margin: float = 0.0  # below 0 that Q_h must stay, for the choice among candidates and for the barrier
    every_limit: bool = False  # takes any limit without training again; a FISOR, up to the suite's largest

    @property
    def trains(self) -> bool:
        """Whether a training belongs to it; others act with that of `of`."""
        return not self.of or self.act == "one_step"

    @property
    def kind(self) -> str:
        """How pictures show it."""
        return "rival" if self.rival else "parity" if self.official else "limits" if self.every_limit else "ours"


PARITY = "FISOR official"
BEST = "FISOR, Q, barrier, margin"  # the best of those that know no limit; seeds 0 to 2, other episodes
ASCENT = 0.05  # scale of the energy that lifts Q
BEFORE = 5  # rows before a violation that the threshold is calibrated on, that which leads into it among them
ALPHA = 0.1  # share of unsafe rows that the calibrated threshold may call safe
GUIDANCE = 2.0  # scale of CFG towards the best return of the log; 4 costs too much on CarCircle; chosen with seed 0
MARGIN = 0.8  # below 0 that Q_h must stay: of what may follow under 1 % is violating, where 0 allows 4 %
CFG = "FISOR, CFG on return"
BUDGET = "FISOR, normalised, budget"  # raw, it earns next to nothing on CarCircle; chosen with seed 0
KEPT = "FISOR, normalised, budget, reserve"
FAST = "FISOR, normalised, budget, one step"
RESERVE = 6.0  # cost kept back: BallCircle passes what it is told by a few; chosen with seed 0, on other episodes
METHODS = {
    PARITY: Method(train={}, official=True),
    "FISOR": Method(train={}),
    "FISOR, minqc": Method(of="FISOR", act="minqc"),
    "FISOR, time-outs end": Method(train={"timeouts_bootstrap": False}),
    "FISOR, raw weights": Method(train={"normalize_weights": False}),
    "FISOR, squared loss": Method(train={"feasibility_loss": "squared"}),
    "FISOR, reward of all rows": Method(train={"reward_rows": "all"}),
    "FISOR, critics on an eighth": Method(train={"critic_rows": 32}),  # as official: 256 of 2,048
    "FISOR, lead of 3": Method(train={"lead": 3}),
    "FISOR, no recovery": Method(train={"recovery": 0.0}),
    "FISOR, slow critics": Method(train={"target_rate": 0.005, "critic_lr": 0.0}),
    "FISOR, normalised": Method(train={"normalize": True}),
    BUDGET: Method(train={"normalize": True}, every_limit=True),
    KEPT: Method(of=BUDGET, act="reserve", every_limit=True),
    FAST: Method(of=BUDGET, act="one_step", every_limit=True),
    f"{FAST}, reserve": Method(of=FAST, act="reserve", every_limit=True),
    "FISOR, barrier on Q_h": Method(of="FISOR", act="guided"),
    "FISOR, Q and barrier": Method(of="FISOR", act="steered"),
    BEST: Method(of="FISOR", act="steered", margin=MARGIN),
    CFG: Method(train={"condition_dropout": 0.25}, act="returns"),
    "FISOR, CFG, barrier, margin": Method(of=CFG, act="returns_guided", margin=MARGIN),
    "FISOR, calibrated": Method(of="FISOR", act="calibrated"),
    "FISOR, best of 64": Method(of="FISOR", candidates=64),
    "FISOR, one step": Method(of="FISOR", act="one_step"),
    "FISOR, one step, best of 256": Method(of="FISOR, one step", candidates=256),
    "FISOR, one step, margin": Method(of="FISOR, one step", margin=MARGIN),
    "BC": Method(rival="bc"),
    "BC-Safe": Method(rival="bc_safe"),
    "BCQ-Lag": Method(rival="bcq_lag", settings={"batch": 256}),
    "CPQ": Method(rival="cpq", settings=SMALL_CPQ),
    "COptiDICE": Method(rival="coptidice", settings=SMALL_COPTIDICE),
    "CDT": Method(rival="cdt", settings=SMALL_CDT, every_limit=True),
    "CDT, reserve": Method(of="CDT", rival="cdt", act="reserve", every_limit=True),
    "TREBI-like": Method(rival="trebi", every_limit=True),
    "TREBI-like, reserve": Method(of="TREBI-like", rival="trebi", act="reserve", every_limit=True),
}
ACTING: dict[str, dict[str, float]] = {  # constants of how a method acts
    "returns": {"guidance": GUIDANCE},
    "returns_guided": {"guidance": GUIDANCE},
    "steered": {"ascent": ASCENT},
    "calibrated": {"alpha": ALPHA, "before": BEFORE},
    "reserve": {"reserve": RESERVE},
}
MAIN = (PARITY, "FISOR", "FISOR, one step", BEST)  # the most seeds; curves where they train
MOST = (*MAIN, BUDGET, KEPT)  # as many seeds
SHORT = (*MAIN, "FISOR, lead of 3", "FISOR, barrier on Q_h", "FISOR, Q and barrier")
SHORT += (CFG, "FISOR, CFG, barrier, margin", "FISOR, calibrated", "FISOR, best of 64")
SHORT += (BUDGET, KEPT, FAST, f"{FAST}, reserve", "FISOR, one step, margin", "BC-Safe", "CPQ")
FEW = (*MAIN, BUDGET, KEPT, "FISOR, barrier on Q_h", CFG, "FISOR, normalised")
FEW += ("BC", "BC-Safe", "CPQ")


@dataclass(frozen=True)
class Suite:
    """What is run. `limits` on an episode's cost: that of FISOR's code first, which the table compares at, then DSRL's.

    `rows`: methods of the tasks that do not get all. `seeds`: of the main methods, and of the rest. `updates`: of every
    FISOR. `episodes`: flown at each limit. `points`: of learning curves. `sources`: logs that are not made by
    make_dsrl_like.py, by their name in `safeplan.data.catalog`. `chosen_with`: seeds that settings
    were chosen with; `also`: further ones of a TASK/METHOD.
    """

    tasks: tuple[str, ...]
    limits: tuple[float, ...]
    rows: Mapping[str, tuple[str, ...]]
    seeds: tuple[int, int]
    updates: int
    episodes: int
    points: int
    sources: Mapping[str, str] = field(default_factory=dict)
    chosen_with: tuple[int, ...] = ()
    also: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def chosen(self, name: str) -> tuple[int, ...]:
        """Seeds that settings of a TASK/METHOD were chosen with."""
        return self.chosen_with + self.also.get(name, ())


SUITES = {
    "bullet": Suite(
        tasks=("BallCircle", "CarCircle", "BallRun", "CarRun"),
        limits=(10.0, 20.0, 40.0),
        rows={"BallRun": SHORT, "CarRun": SHORT},
        seeds=(5, 3),
        updates=10_000,
        episodes=20,
        points=4,
        chosen_with=(0, 1, 2),
        also=dict.fromkeys((f"CarRun/{BUDGET}", f"CarRun/{KEPT}"), (4,)),  # how a budget is shown to the networks
    ),
    "safety": Suite(
        tasks=("HalfCheetahVelocity", "CarGoal1", "PointGoal1"),
        limits=(10.0, 20.0, 40.0, 80.0),
        rows=dict.fromkeys(("HalfCheetahVelocity", "CarGoal1", "PointGoal1"), FEW),
        seeds=(2, 2),
        updates=5_000,
        episodes=10,
        points=2,
        chosen_with=(0,),
        sources={"HalfCheetahVelocity": "velocity"},
    ),
}


def settings(m: Method, limit: float) -> Any:
    """FisorConfig of what a method trains; `limit`: the largest it is to serve, if it takes any."""
    from safeplan.feasibility import FisorConfig, official

    budget = {"budget": limit} if m.every_limit else {}
    return (official if m.official else FisorConfig)(**{**SMALL, **(m.train or {}), **budget})


def how(method: str) -> dict[str, Any]:
    """What makes a method's rows, as JSON: its entry in METHODS, every setting behind it, and the FISOR it acts with.

    Settings that the study's header has for all FISORs are left out, and the budget, which the suite's limits give.
    """
    from safeplan.baselines.offline import TABLE
    from safeplan.feasibility.config import stored
    from safeplan.feasibility.one_step import OneStepConfig

    m = METHODS[method]
    found: dict[str, Any] = dict(ACTING.get(m.act, {}))
    if m.train is not None:
        base = stored(settings(Method(official=m.official), 0.0))
        mine = stored(settings(m, 1.0)).items()
        found |= {k: v for k, v in mine if k != "budget" and (k not in base or base[k] != v)}
    if m.act == "one_step":
        found |= asdict(OneStepConfig())
    if m.rival and m.trains:
        module, cls = TABLE[m.rival]
        found |= asdict(getattr(import_module(module), cls).Settings(**m.settings))
    return json.loads(json.dumps(asdict(m) | {"with": found} | ({"fisor": how(m.of)} if m.of else {})))


def planned(suite: Suite, tasks: list[str], methods: list[str], seeds: int | None) -> dict[str, list[int]]:
    """TASK/METHOD -> seeds, in the order of the table."""
    return {
        f"{task}/{method}": list(range(seeds or suite.seeds[method not in MOST]))
        for task in tasks
        for method in methods or suite.rows.get(task, tuple(METHODS))
    }


def jobs(plan: Mapping[str, list[int]]) -> list[tuple[str, int]]:
    """Seed by seed, so that a study that is cut short has every cell, and methods paired."""
    return sorted(((name, s) for name, seeds in plan.items() for s in seeds), key=lambda job: job[1])
