"""What a chain did, step by step."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from safeplan.diffusion.guidance import COND, Branch, Context, Predictions


@dataclass
class Trace:
    """One entry per evaluated step: noise, evaluations per sample `[B]`, RMS move of each method, cosines to COND."""

    sigma: list[float] = field(default_factory=list)
    nfe: list[Tensor] = field(default_factory=list)
    rms: list[dict[str, Tensor]] = field(default_factory=list)
    cosine: list[dict[str, Tensor]] = field(default_factory=list)

    def total_nfe(self) -> Tensor:
        """Network evaluations per sample over the run, `[B]`."""
        return torch.stack(self.nfe).sum(0)

    def record(self, ctx: Context, preds: Predictions, branches: Sequence[Branch], moves: dict[str, Tensor]) -> None:
        """Add one evaluated step; `branches[0]` is COND."""
        nfe = torch.zeros(len(ctx.x), dtype=torch.long)
        c = preds.x0(COND).detach().flatten(1)
        cosine = {}
        for b in branches:
            nfe += 1 if b.rows is None else b.rows.cpu().long()
            if b is not branches[0]:
                name = "/".join([b.cond if isinstance(b.cond, str) else "late", b.net, *map(str, b.perturb)])
                cosine[name] = torch.cosine_similarity(c, preds.x0(b).detach().flatten(1)).cpu()
        self.sigma.append(ctx.sigma)
        self.nfe.append(nfe)
        self.rms.append(moves)
        self.cosine.append(cosine)


def rms(d: Tensor) -> Tensor:
    """Root mean square of each sample, `[B]`, on the CPU."""
    return d.detach().flatten(1).square().mean(1).sqrt().cpu()
