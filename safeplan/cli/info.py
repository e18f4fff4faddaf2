"""Versions, devices and shipped weights: what to put into a bug report.

  safeplan info

Writes nothing.
"""

from collections.abc import Sequence
from pathlib import Path

import safeplan
from safeplan import build, schema
from safeplan.schema import InfoConfig as Config


def nested(overrides: Sequence[str]) -> dict[str, type]:
    """Settings whose type the schema leaves open."""
    return {}


def arguments(argv: Sequence[str]) -> list[str]:
    """Nothing to translate."""
    return list(argv)


def run(cfg: Config, out: Path) -> str:
    """Print what the results of this installation depend on."""
    import torch

    from safeplan.evaluation.study import provenance

    rows = provenance(build.device(cfg.device))
    rows["cuda"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    rows["threads"] = str(torch.get_num_threads())
    rows["package"] = str(Path(safeplan.__file__).parent)
    for kind in (*schema.ENVS, *schema.IMAGES):
        found = sorted(p.name for p in build.shipped_weights(kind, "any").parent.glob("*.safetensors"))
        rows[f"weights {kind}"] = ", ".join(found) or "none"
    print("\n".join(f"{k:<20} {v}" for k, v in rows.items()))
    return "nothing was written"
