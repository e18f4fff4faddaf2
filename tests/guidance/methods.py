"""Small networks for the three shapes of samples, and one example of every method, for tests that run them all."""

import copy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from safeplan.diffusion import Branch, Denoiser, VPCosine
from safeplan.diffusion.guidance import Guidance
from safeplan.guidance import (
    APG,
    CFG,
    FACFG,
    FDG,
    GFCG,
    ICG,
    MAMBO,
    PAG,
    SEG,
    SLG,
    SWG,
    TCFG,
    TPG,
    TSG,
    AdaptiveGuidance,
    AutoGuidance,
    Barrier,
    CFGpp,
    CFGZeroStar,
    ClassifierGuidance,
    Composed,
    ConstrictingBarrier,
    EluCD,
    Energy,
    ExactEnergy,
    FeedbackGuidance,
    LinearAG,
    PiGDM,
    Project,
    Rescale,
    direct,
    shuffled,
)
from safeplan.nets import MLP, TemporalTransformer

B, CLASSES = 3, 4
SHAPES = {"action": (2,), "trajectory": (8, 2), "image": (2, 6, 8)}


class ActionNet(nn.Module):
    """`[B, A]` with a class; no attention, no axis."""

    learned_null = True

    def __init__(self, size: int) -> None:
        super().__init__()
        self.mlp, self.embed = MLP(size + 1, size, (16,)), nn.Embedding(CLASSES + 1, 16)
        self.mix = nn.Linear(16, size)

    def forward(self, x, t, leaves, null):
        y = leaves["label"]
        y = torch.where(null["label"], CLASSES, y) if "label" in null else y
        return self.mlp(torch.cat([x, t[:, None]], -1)) + self.mix(self.embed(y))


class Tokens(nn.Module):
    """A transformer over `[B, H, D]` or, pixel by pixel, over `[B, C, H, W]`."""

    learned_null = True
    perturbations = TemporalTransformer.perturbations

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        tokens, dim = (shape[0], shape[1]) if len(shape) == 2 else (shape[1] * shape[2], shape[0])
        self.net = TemporalTransformer(dim, tokens, {"label": CLASSES}, width=16, blocks=2, heads=2, emb=16)
        for p in self.net.parameters():  # nothing is zero, so that every part matters
            nn.init.normal_(p, std=0.3)

    def forward(self, x, t, leaves, null, perturb=None):
        one_hot = nn.functional.one_hot(leaves["label"], CLASSES).to(x.dtype)
        z = x if x.ndim == 3 else x.flatten(2).transpose(1, 2)
        y = self.net(z, t, {"label": one_hot}, null, perturb)
        return y if x.ndim == 3 else y.transpose(1, 2).reshape(x.shape)


@dataclass(frozen=True)
class Domain:
    """One shape of samples: networks, start noise `[B, ...]`, conditions and what the run offers beside."""

    name: str
    nets: dict[str, Denoiser]
    noise: Tensor
    cond: dict[str, Tensor]
    conds: dict[str, Any]

    def decode(self, x: Tensor) -> Tensor:
        return 2.0 * x + 0.5

    def to(self, device: str) -> "Domain":
        """The same there; the networks of this one stay where they are."""
        move = lambda leaves: {k: v.to(device) for k, v in leaves.items()}  # noqa: E731
        nets = {k: replace(v, net=copy.deepcopy(v.net).to(device)) for k, v in self.nets.items()}
        conds = {
            k: move(v) if isinstance(v, dict) else v._replace(leaves=move(v.leaves)) for k, v in self.conds.items()
        }
        return Domain(self.name, nets, self.noise.to(device), move(self.cond), conds)


def domain(name: str, dtype: torch.dtype = torch.float64) -> Domain:
    """The same one at every call."""
    shape = SHAPES[name]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        nets = {}
        for key in ("main", "weak"):
            net = ActionNet(shape[0]) if name == "action" else Tokens(shape)
            nets[key] = Denoiser(net.to(dtype).requires_grad_(False).eval(), VPCosine(), "v")
        noise = torch.randn(B, *shape, dtype=torch.float64).to(dtype)
    cond = {"label": torch.arange(B) % CLASSES}
    extra = {"neg": {"label": (cond["label"] + 1) % CLASSES}, "independent": shuffled(cond, torch.Generator())}
    return Domain(name, nets, noise, cond, extra)


def logits(x: Tensor) -> Tensor:
    """A smooth classifier of anything, `[B, CLASSES]`."""
    flat = x.flatten(1)
    k = torch.arange(1, CLASSES + 1, dtype=x.dtype)
    return torch.stack([torch.sin(v * flat).mean(1) + 0.1 * v for v in k], 1)


def square(x: Tensor) -> Tensor:
    return (x - 1.0).square().flatten(1).sum(1)


def methods() -> dict[str, Guidance]:
    """One example of every method."""
    measure = lambda v: v.flatten(1)[:, :2]  # noqa: E731
    return {
        "CFG": CFG(3.0),
        "CFG negative": CFG(3.0, Branch("neg")),
        "Composed": Composed({"neg": -0.5, "independent": 1.5}),
        "Rescale": Rescale(0.7),
        "APG": APG(3.0, eta=0.2, r=0.1, momentum=-0.5),
        "CFG++": CFGpp(0.6),
        "PAG": PAG(2.0, ("pag", 1)),
        "SEG": SEG(2.0, ("seg", 2.0)),
        "SLG": SLG(2.0, ("slg", 0)),
        "TPG": TPG(2.0),
        "SWG": SWG(2.0, ("swg", 2)),
        "TSG": TSG(2.0),
        "AutoGuidance": AutoGuidance(2.0),
        "ICG": ICG(2.0),
        "GFCG": GFCG(logits, 2.0),
        "GFCG weak": GFCG(logits, 2.0, law="rival", net="weak"),
        "AdaptiveGuidance": AdaptiveGuidance(APG(3.0, r=0.1), 0.9),
        "LinearAG": LinearAG(3.0, {2: ((0.5, 0.1), (0.4,))}, stop=4),
        "ClassifierGuidance": ClassifierGuidance(lambda x, a, s: logits(x), 2.0),
        "EluCD": EluCD(logits, 0.5, unit=True),
        "ExactEnergy": ExactEnergy(lambda x, a, s: -square(x), 0.3),
        "Energy proximal": Energy(square, 0.5),
        "Energy explicit (DPS)": Energy(square, 0.5, proximal=False),
        "Energy scalar": Energy(square, 0.5, metric="scalar"),
        "PiGDM": PiGDM(measure, torch.tensor([1.0, -1.0]), 0.1),
        "PiGDM exact": PiGDM(measure, torch.tensor([1.0, -1.0]), 0.1, exact=True),
        "Barrier": Barrier(lambda v: v.flatten(1)[:, :2] - 0.4, iterations=2),
        "ConstrictingBarrier": ConstrictingBarrier(lambda v: v.flatten(1)[:, 0] - 3.0, width=0.5),
        "Project": Project(lambda v: v.clamp(-0.3, 0.3)),
        "DiRecT": direct(square, 0.5),
        "FeedbackGuidance": FeedbackGuidance(),
        "CFG-Zero*": CFGZeroStar(3.0, zero=0.2),
        "TCFG": TCFG(3.0),
        "MAMBO": MAMBO(3.0, alpha=2.0),
        "FA-CFG": FACFG(low=2.0, high=4.0),
        "FDG": FDG(scales=(4.0, 2.0)),
    }
