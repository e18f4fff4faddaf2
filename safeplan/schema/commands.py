"""Settings of the commands, and of what they are about: environments, systems, data, policies, models."""

import math
from dataclasses import dataclass, field
from typing import Any

from safeplan.errors import ConfigError
from safeplan.schema.guidance import GuidanceConfig
from safeplan.schema.ranges import (
    CASES,
    DATA,
    DEVICES,
    ENVS,
    IMAGES,
    MISSING,
    PLANNERS,
    SAMPLERS,
    at_least,
    in_range,
    one_of,
)


@dataclass
class EnvConfig:
    """A vehicle, its uncertainty, and a generator of scenes."""

    kind: str = MISSING  # hovercraft | driving | point_robot
    difficulty: float = 1.0  # 0 easy, 1 default, 2 hard
    max_seconds: float = 30.0  # longest episode, s of simulated time

    def __post_init__(self) -> None:
        one_of("env.kind", self.kind, ENVS)
        if not 0.0 <= self.difficulty <= 2.0:
            raise ConfigError(f"env.difficulty={self.difficulty}: must lie in [0, 2] (0 easy, 1 default, 2 hard)")
        at_least("env.max_seconds", self.max_seconds, 0.1)


@dataclass
class SystemConfig:
    """Your own vehicle."""

    file: str | None = None  # your own vehicle: a Python file that defines `system` and `belief(x)`; its code is run


@dataclass
class CaseConfig(SystemConfig):
    """A system of the density work, or your own vehicle."""

    kind: str = MISSING  # vdp | dint | kop | pend | robot | car | quad | factest_car | factest_hovercraft | hovercraft

    def __post_init__(self) -> None:
        one_of("system.kind", self.kind, CASES)


@dataclass
class DataConfig:
    """Where the logs come from."""

    kind: str = MISSING  # point_robot | hovercraft | driving | velocity | dsrl | file | mnist | fashion | cifar10
    path: str | None = None  # the .hdf5 file (DSRL layout) of data=file; the folder of an image set
    task: str | None = None  # of data=dsrl, one of the 38: BallCircle, CarGoal1, AntVelocity, easymean ...
    seed: int = 0  # of logs that are generated on first use
    system: str | None = None  # vehicle of the log, for policy=trajectory: hovercraft | driving

    def __post_init__(self) -> None:
        one_of("data.kind", self.kind, DATA)
        if self.kind == "file" and not self.path:
            raise ConfigError("data=file needs data.path=FILE.hdf5")
        if self.kind == "dsrl" and not self.task:
            raise ConfigError("data=dsrl needs data.task=TASK, such as BallCircle")
        if self.task and self.kind not in ("dsrl", MISSING):
            raise ConfigError(f"data.task={self.task} goes with data=dsrl, not with data={self.kind}")


@dataclass(frozen=True)
class TeacherConfig:
    """Who is distilled."""

    teacher: str = MISSING  # a trained FISOR: the folder of its run, or a .safetensors file

    def __post_init__(self) -> None:
        if not self.teacher:
            raise ConfigError("policy.teacher is empty: give the folder of a run of policy=fisor, or its .safetensors")


@dataclass(frozen=True)
class LimitConfig:
    """What is allowed."""

    limit: float = MISSING  # cost that an episode may have; inf: any

    def __post_init__(self) -> None:
        if self.limit != MISSING:
            in_range(self, "policy", {"limit": "limit"})


@dataclass
class RunConfig:
    """What every command has."""

    name: str = MISSING  # folder under runs/
    seed: int = 0  # of everything random; results depend on it alone
    device: str = "auto"  # auto | cpu | cuda

    def __post_init__(self) -> None:
        one_of("device", self.device, DEVICES)
        at_least("seed", self.seed, 0)


@dataclass
class PilotConfig(RunConfig):
    """What `plan` and `evaluate` share: the vehicle and who drives it."""

    env: EnvConfig = field(default_factory=EnvConfig)  # which vehicle and scenes
    planner: Any = MISSING  # settings of the planner
    guidance: GuidanceConfig = field(default_factory=GuidanceConfig)  # how proposals are steered
    weights: str = "auto"  # proposal model: auto (shipped with the env), none (a fan of detours), or a path
    fisor_weights: str = "auto"  # FISOR, which ranks proposals: auto (shipped with the env), none, or a path


@dataclass
class PlanConfig(PilotConfig):
    """`safeplan plan`"""

    system: SystemConfig = field(default_factory=SystemConfig)  # your own vehicle
    scene: str | None = None  # YAML file with a scene of your own
    animate: bool = True  # write plan.gif


@dataclass
class TrainConfig(RunConfig):
    """`safeplan train`"""

    policy: Any = MISSING  # what is trained, with its settings
    data: DataConfig = field(default_factory=DataConfig)  # what it learns from
    updates: int = 20_000  # gradient updates in all, over all resumes
    checkpoint_every: int = 1000  # updates between checkpoints
    log_every: int = 100  # updates between lines of metrics.csv

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("updates", "checkpoint_every", "log_every"):
            at_least(name, getattr(self, name), 1)


@dataclass
class EvaluateConfig(PilotConfig):
    """`safeplan evaluate`"""

    planners: list[str] = field(default_factory=lambda: list(PLANNERS))  # who is compared, on the same seeds
    tuned: dict[str, dict[str, Any]] = field(default_factory=dict)  # planner -> settings in which it differs
    episodes: int = 400  # seeds are seed, seed + 1, ...
    split: str = "eval"  # random stream of the scenes: tune | eval (apart from training by construction)
    processes: int = 1  # episodes at a time
    summary: str | None = None  # also write summary.json here

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.planners:
            raise ConfigError(f"planners=[]: nobody to compare. Name at least one of: {', '.join(PLANNERS)}")
        for name in self.planners:
            one_of("planners", name, PLANNERS)
            if self.planners.count(name) > 1:
                raise ConfigError(f"planners={self.planners}: {name} is named more than once. Name every planner once")
        one_of("split", self.split, ("tune", "eval"))
        at_least("episodes", self.episodes, 1)
        at_least("processes", self.processes, 1)


@dataclass
class ModelConfig:
    """An image model and its companions."""

    kind: str = MISSING  # mnist | fashion | cifar10: what it draws
    weights: str = "auto"  # auto (shipped with safeplan) or a path
    weak: str = "auto"  # a weaker net of the same set, for methods that need one: auto or a path
    classifier: str = "auto"  # a classifier, for methods that need one: auto or a path

    def __post_init__(self) -> None:
        one_of("model.kind", self.kind, IMAGES)


@dataclass
class SampleConfig(RunConfig):
    """`safeplan sample`"""

    model: ModelConfig = field(default_factory=ModelConfig)  # what draws
    guidance: GuidanceConfig = field(default_factory=GuidanceConfig)  # how samples are steered
    n: int = 64  # images
    labels: list[int] = field(default_factory=list)  # classes to draw, in turn; -1: of none; empty: all of them
    bf16: bool = False  # run the networks in bfloat16: faster on CUDA and on CPUs that have it
    steps: int = 18  # of the sampler
    sampler: str = "heun"  # euler | ddim | ddpm | heun | dpmpp_2m
    batch: int = 64  # images at a time

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("sampler", self.sampler, SAMPLERS)
        for name in ("n", "steps", "batch"):
            at_least(name, getattr(self, name), 1)


@dataclass
class DensityConfig(RunConfig):
    """`safeplan density`"""

    system: CaseConfig = field(default_factory=CaseConfig)  # what moves
    start: list[float] = field(default_factory=list)  # your own vehicle: where the start is centred; empty: nominal
    control: list[float] = field(default_factory=list)  # values at which controls are held; empty: nominal
    seconds: float | None = None  # how long is looked ahead; null: the system's horizon, 3 s for your own vehicle
    axes: list[str] = field(default_factory=lambda: ["0", "1"])  # two states that are drawn, by name or number
    masses: list[float] = field(default_factory=lambda: [0.5, 0.9, 0.99])  # of the level sets
    particles: int = 4096  # that carry the exact density; the error is looked at up to as many; a power of two
    cloud: int = 65_536  # particles of level sets and true probabilities; a power of two
    boxes: int = 32  # whose probabilities are estimated
    repeats: int = 8  # estimates of each box, with other seeds
    frames: int = 40  # of the animation
    animate: bool = True  # write density.gif

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, low in (("particles", 64), ("cloud", 1024), ("boxes", 1), ("repeats", 2), ("frames", 2)):
            at_least(name, getattr(self, name), low)
        for name in ("particles", "cloud"):
            if (n := getattr(self, name)) & (n - 1):
                raise ConfigError(f"{name}={n}: Sobol points come in powers of two; use {1 << n.bit_length()}")
        if self.seconds is not None and not 0 < self.seconds < math.inf:
            raise ConfigError(f"seconds={self.seconds}: must be above 0")
        if not self.masses or not all(0 < m < 1 for m in self.masses):
            raise ConfigError(f"masses={self.masses}: give shares between 0 and 1, such as [0.5,0.9,0.99]")


@dataclass
class VerifyConfig:
    """`safeplan verify`"""

    plan: str = MISSING  # the plan.json to check
    fresh: int = 2000  # draws per plan, seen by nobody before, that its bound is tested on
    seed: int = 1  # of those draws

    def __post_init__(self) -> None:
        at_least("fresh", self.fresh, 1)
        at_least("seed", self.seed, 0)


@dataclass
class InfoConfig:
    """`safeplan info`"""

    device: str = "auto"  # auto | cpu | cuda

    def __post_init__(self) -> None:
        one_of("device", self.device, DEVICES)


@dataclass
class DataCheckConfig:
    """`safeplan data check`"""

    path: str = MISSING  # the .hdf5 file to check, in the DSRL layout
    name: str = MISSING  # folder under runs/


@dataclass
class DataEstimateConfig:
    """`safeplan data estimate`"""

    path: str = MISSING  # the .hdf5 log to estimate from
    run: str = MISSING  # folder of the policy's training, or its .safetensors
    gamma: float = 0.99  # discount of what is estimated
    members: int = 6  # bootstrap samples of the log's episodes
    updates: int = 4000  # of each signal's estimate
    seed: int = 0  # of the bootstrap, the batches and the policy's actions
    name: str = MISSING  # folder under runs/


@dataclass
class ColumnsConfig:
    """What columns are called in a file to import; `none` says that there is none."""

    observations: list[str] = field(default_factory=list)  # names or patterns; empty: observations, obs, obs_0 ...
    next_observations: list[str] = field(default_factory=list)  # empty: next_obs ..., else made from the following row
    actions: list[str] = field(default_factory=list)  # empty: actions, action_0, action_1 ...
    rewards: str | None = None  # null: rewards, reward
    costs: str | None = None  # null: costs, cost, infos/cost; none: every row costs 0
    terminals: str | None = None  # null: terminals, terminated, done ...; none: no episode ends by itself
    timeouts: str | None = None  # null: timeouts, truncated ..., if there is one
    episode: str | None = None  # null: episode, episode_id, trajectory, if there is one
    time: str | None = None  # null: time, t, step, timestep, if there is one


@dataclass
class DataImportConfig:
    """`safeplan data import`"""

    source: str = MISSING  # a .csv, .tsv, .npz or .hdf5 file, a folder of Minari, or minari:DATASET_ID
    out: str = MISSING  # the .hdf5 file to write
    columns: ColumnsConfig = field(default_factory=ColumnsConfig)  # what is called how in the source
    action_low: list[float] = field(default_factory=list)  # action that becomes -1: one number, or one per entry
    action_high: list[float] = field(default_factory=list)  # action that becomes 1
    clip: bool = False  # cut actions beyond their bounds, as most simulators do
    sort: bool = False  # sort the rows by episode and time
    overwrite: bool = False  # replace another file that is there already
    name: str = MISSING  # folder under runs/

    def __post_init__(self) -> None:
        if len(self.action_low) != len(self.action_high):
            raise ConfigError(
                f"action_low={self.action_low} and action_high={self.action_high}: give both, with equally many numbers"
            )
        for low, high in zip(self.action_low, self.action_high, strict=True):
            if not -math.inf < low < high < math.inf:
                raise ConfigError(f"action_low={low:g}, action_high={high:g}: must be finite, the low one below")
        if self.out != MISSING and not self.out.endswith((".hdf5", ".h5")):
            raise ConfigError(f"out={self.out}: must end in .hdf5")
