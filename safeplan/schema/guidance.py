"""Settings of the guidance methods, and the chain that picks them."""

from dataclasses import asdict, dataclass, field, fields
from typing import Any, get_type_hints

from safeplan.errors import ConfigError
from safeplan.schema.ranges import each_in_range, in_range, one_of

SCHEDULES = ("constant", "sine", "unit")  # of elucd
_INTERVAL = {"not negative": "sigma_min", "limit": "sigma_max"}


@dataclass
class CfgConfig:
    """Classifier-free guidance."""

    w: float = 1.5  # scale; 0 unconditional, 1 conditional, more is sharper
    sigma_min: float = 0.0  # lowest noise level (std) at which it acts
    sigma_max: float = float("inf")  # highest one; both ends are inclusive

    def __post_init__(self) -> None:
        in_range(self, "guidance.cfg", {"finite": "w", **_INTERVAL})


@dataclass
class EnergyConfig:
    """Gradient of a differentiable clearance energy, in physical units."""

    scale: float = 1.0  # weight of the energy
    margin: float = 0.08  # clearance (m) below which the energy is positive
    metric: str = "scalar"  # scalar | posterior (through the network: one VJP a step) | identity
    sigma_min: float = 0.0  # lowest noise level (std) at which it acts
    sigma_max: float = float("inf")  # highest one; both ends are inclusive

    def __post_init__(self) -> None:
        in_range(self, "guidance.energy", {"finite": "scale", "positive": "margin", **_INTERVAL})


@dataclass
class ApgConfig:
    """Adaptive projected guidance."""

    w: float = 4.0  # scale; 1 is off
    eta: float = 0.0  # share kept of what is parallel to the conditional prediction; 1 with r=inf is cfg
    r: float = float("inf")  # threshold on the RMS of the difference
    momentum: float = 0.0  # of the difference; negative ones push back what recurs
    sigma_min: float = 0.0  # lowest noise level (std) at which it acts
    sigma_max: float = float("inf")  # highest one; both ends are inclusive

    def __post_init__(self) -> None:
        in_range(self, "guidance.apg", {"finite": "w eta momentum", **_INTERVAL})


@dataclass
class CfgppConfig:
    """CFG++: aims at the guided prediction, renoises with the unconditional one."""

    lam: float = 0.6  # 0 unconditional, up to 1
    ref_steps: int = 0  # keep the strength that lam has at so many steps, at any number; 0: it grows with the steps

    def __post_init__(self) -> None:
        in_range(self, "guidance.cfgpp", {"finite": "lam", "count or 0": "ref_steps"})


@dataclass
class RescaleConfig:
    """Gives the spread of the conditional prediction back; stands after what it tames."""

    phi: float = 0.7  # 0 off, 1 all of it

    def __post_init__(self) -> None:
        in_range(self, "guidance.rescale", {"finite": "phi"})


@dataclass
class PagConfig:
    """Perturbed-attention guidance; needs a network with attention."""

    s: float = 2.0  # strength; 0 is off
    layers: list[int] = field(default_factory=list)  # attention layers that are perturbed; none: the network's default
    sigma_min: float = 0.0  # lowest noise level (std) at which it acts
    sigma_max: float = float("inf")  # highest one; both ends are inclusive

    def __post_init__(self) -> None:
        in_range(self, "guidance.pag", {"finite": "s", **_INTERVAL})
        each_in_range("guidance.pag.layers", self.layers, "count or 0")


@dataclass
class AutoguidanceConfig:
    """Guidance by a weaker network under the same condition."""

    w: float = 2.0  # scale; 1 is off
    sigma_min: float = 0.0  # lowest noise level (std) at which it acts
    sigma_max: float = float("inf")  # highest one; both ends are inclusive

    def __post_init__(self) -> None:
        in_range(self, "guidance.autoguidance", {"finite": "w", **_INTERVAL})


@dataclass
class GfcgConfig:
    """Gradient-free classifier guidance: away from the class that is confused."""

    s: float = 2.0  # strength; 0 is off
    law: str = "doubt"  # doubt | rival: how strength follows the classifier's probabilities
    net: str = "main"  # main | weak: the network that is asked with the confused class

    def __post_init__(self) -> None:
        in_range(self, "guidance.gfcg", {"finite": "s"})


@dataclass
class AdaptiveConfig:
    """CFG until both branches agree, then the conditional prediction alone."""

    w: float = 3.0  # scale until then
    threshold: float = 0.99  # cosine of the x0 predictions; above 1 never stops
    per_sample: bool = True  # each sample stops by itself

    def __post_init__(self) -> None:
        in_range(self, "guidance.adaptive", {"finite": "w threshold"})


@dataclass
class FeedbackConfig:
    """The scale follows how likely the sample already is to have its condition."""

    pi: float = 0.95  # trust in the conditional model
    w_max: float = 10.0  # largest scale

    def __post_init__(self) -> None:
        in_range(self, "guidance.feedback", {"in (0, 1]": "pi", "finite": "w_max"})


@dataclass
class ZeroStarConfig:
    """CFG-Zero*, for flow models."""

    w: float = 3.0  # scale
    zero: float = 0.04  # share of the steps that stand still at first

    def __post_init__(self) -> None:
        in_range(self, "guidance.zero_star", {"finite": "w", "in [0, 1)": "zero"})


@dataclass
class TcfgConfig:
    """CFG whose null score is projected on the main direction of both."""

    w: float = 3.0  # scale

    def __post_init__(self) -> None:
        in_range(self, "guidance.tcfg", {"finite": "w"})


@dataclass
class MamboConfig:
    """CFG damped where the difference is large."""

    w: float = 6.0  # scale
    alpha: float = 4.0  # damping; 0 is cfg

    def __post_init__(self) -> None:
        in_range(self, "guidance.mambo", {"finite": "w", "not negative": "alpha"})


@dataclass
class FaCfgConfig:
    """Frequency-aware CFG: one scale for coarse structure, one for detail."""

    low: float = 2.0  # scale of what survives shrinking
    high: float = 4.0  # scale of the rest
    factor: float = 2.0  # by how much is shrunk

    def __post_init__(self) -> None:
        in_range(self, "guidance.fa_cfg", {"finite": "low high factor"})


@dataclass
class FdgConfig:
    """Frequency-decoupled guidance: one scale per level of a Laplacian pyramid."""

    scales: list[float] = field(default_factory=lambda: [4.0, 2.0])  # finest first

    def __post_init__(self) -> None:
        each_in_range("guidance.fdg.scales", self.scales, "finite")
        if not self.scales:
            raise ConfigError("guidance.fdg.scales is empty; give one per level, finest first, such as [4,2]")


@dataclass
class ElucdConfig:
    """An off-the-shelf classifier on clean estimates."""

    scale: float = 1.0  # weight of the gradient
    joint: float = 1.0  # temperature of the wanted logit
    marginal: float = 0.5  # temperature of all logits; lower keeps the gradient alive
    schedule: str = "constant"  # constant | sine | unit: how the weight follows the steps; unit: of a unit gradient

    def __post_init__(self) -> None:
        in_range(self, "guidance.elucd", {"finite": "scale joint marginal"})
        one_of("guidance.elucd.schedule", self.schedule, SCHEDULES)


@dataclass
class BarrierConfig:
    """The least move that keeps every clearance, in a metric of choice."""

    margin: float = 0.05  # clearance (m) that is kept
    metric: str = "posterior"  # posterior (smooth: one VJP per iteration) | scalar | identity
    iterations: int = 2  # the worst clearance is handled once in each

    def __post_init__(self) -> None:
        in_range(self, "guidance.barrier", {"finite": "margin", "count": "iterations"})


@dataclass
class TubeConfig:
    """A barrier that is loose at noise and tight at the data."""

    margin: float = 0.05  # clearance (m) that is kept in the end
    width: float = 0.5  # slack (m) per unit of noise

    def __post_init__(self) -> None:
        in_range(self, "guidance.tube", {"finite": "margin", "not negative": "width"})


@dataclass
class GoalConfig:
    """Proximal cost of the distance to the goal, smooth in time through the model's covariance."""

    scale: float = 1.0  # weight of the squared distance (1/m^2) of the trajectory's end
    metric: str = "posterior"  # posterior (one VJP) | scalar | step (DiRecT: moves the aim only)

    def __post_init__(self) -> None:
        in_range(self, "guidance.goal", {"finite": "scale"})


@dataclass
class GuidanceConfig:
    """How samples are steered while they are drawn: a chain, and a field of settings for each method there is.

    To add a method: its settings above, a field here, a line in `build.chains`, a file in configs/guidance.
    """

    chain: list[str] = field(default_factory=list)  # methods in order, by the names of the settings below
    cfg: CfgConfig = field(default_factory=CfgConfig)  # settings of cfg
    energy: EnergyConfig = field(default_factory=EnergyConfig)  # settings of energy
    apg: ApgConfig = field(default_factory=ApgConfig)  # settings of apg
    cfgpp: CfgppConfig = field(default_factory=CfgppConfig)  # settings of cfgpp
    rescale: RescaleConfig = field(default_factory=RescaleConfig)  # settings of rescale
    pag: PagConfig = field(default_factory=PagConfig)  # settings of pag
    autoguidance: AutoguidanceConfig = field(default_factory=AutoguidanceConfig)  # settings of autoguidance
    gfcg: GfcgConfig = field(default_factory=GfcgConfig)  # settings of gfcg
    adaptive: AdaptiveConfig = field(default_factory=AdaptiveConfig)  # settings of adaptive
    feedback: FeedbackConfig = field(default_factory=FeedbackConfig)  # settings of feedback
    zero_star: ZeroStarConfig = field(default_factory=ZeroStarConfig)  # settings of zero_star
    tcfg: TcfgConfig = field(default_factory=TcfgConfig)  # settings of tcfg
    mambo: MamboConfig = field(default_factory=MamboConfig)  # settings of mambo
    fa_cfg: FaCfgConfig = field(default_factory=FaCfgConfig)  # settings of fa_cfg
    fdg: FdgConfig = field(default_factory=FdgConfig)  # settings of fdg
    elucd: ElucdConfig = field(default_factory=ElucdConfig)  # settings of elucd
    barrier: BarrierConfig = field(default_factory=BarrierConfig)  # settings of barrier
    tube: TubeConfig = field(default_factory=TubeConfig)  # settings of tube
    goal: GoalConfig = field(default_factory=GoalConfig)  # settings of goal

    def __post_init__(self) -> None:
        for name in self.chain:
            one_of("guidance.chain", name, GUIDANCE)

    def used(self) -> dict[str, Any]:
        """The chain and the settings of its methods: what a result depends on."""
        return {"chain": list(self.chain), **{k: asdict(getattr(self, k)) for k in self.chain}}

    @staticmethod
    def of(values: dict[str, Any]) -> "GuidanceConfig":
        """From what `asdict` made of one."""
        hints = get_type_hints(GuidanceConfig)
        return GuidanceConfig(**{k: v if k == "chain" else hints[k](**v) for k, v in values.items()})


GUIDANCE = tuple(f.name for f in fields(GuidanceConfig) if f.name != "chain")
