"""Networks. Noise networks share one call: `net(x, t, leaves, null)`."""

from safeplan.nets.causal_transformer import CausalTransformer
from safeplan.nets.cvae import CVAE
from safeplan.nets.ema import ema_update
from safeplan.nets.ensemble import EnsembleMLP
from safeplan.nets.fisor_mlp import FisorMLP
from safeplan.nets.mlp import MLP
from safeplan.nets.squashed_gaussian import SquashedGaussian
from safeplan.nets.temporal_transformer import TemporalTransformer
from safeplan.nets.temporal_unet import TemporalUNet

__all__ = [
    "CVAE",
    "MLP",
    "CausalTransformer",
    "EnsembleMLP",
    "FisorMLP",
    "SquashedGaussian",
    "TemporalTransformer",
    "TemporalUNet",
    "ema_update",
]
