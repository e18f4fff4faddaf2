"""Perturbations that the temporal transformer knows: their form, and which of them touch a layer."""

from collections.abc import Mapping

from torch import Tensor

from safeplan.errors import CapabilityError
from safeplan.schema import each_in_range

Masks = Mapping[tuple, Tensor]  # perturbation, such as ("pag", 0) -> bool [B]
FORMS: dict[str, dict[str, str]] = {  # name -> its settings and their ranges; layers follow, except after "time"
    "pag": {},
    "seg": {"sigma": "limit"},
    "swg": {"width": "not negative"},
    "slg": {},
    "tpg": {},
    "time": {"shift": "finite"},
}


def check_perturbation(p: tuple, layers: int) -> None:
    """Whether `p` is (name, *settings, *layers) as a network of so many layers knows it.

    Raises:
        CapabilityError: an unknown name, another form, a layer that is not there. ConfigError: a setting out of range.
    """
    if not p or p[0] not in FORMS:
        raise CapabilityError(f"perturbation {p} is unknown here; use one of {', '.join(FORMS)}")
    settings, layered = FORMS[p[0]], p[0] != "time"
    given, rest = p[1 : 1 + len(settings)], p[1 + len(settings) :]
    if len(given) < len(settings) or (rest and not layered):
        form = ", ".join((repr(p[0]), *settings, *(["*layers"] if layered else [])))
        raise CapabilityError(f"perturbation {p} has another form here: ({form})")
    for (name, kind), v in zip(settings.items(), given, strict=True):
        each_in_range(f"perturbation {p}: {name}", [v], kind)
    for layer in rest:
        if not isinstance(layer, int) or not 0 <= layer < layers:
            raise CapabilityError(f"perturbation {p}: no layer {layer!r}; this network has layers 0 to {layers - 1}")


def chosen(masks: Masks | None, name: str, layer: int, settings: int = 0) -> list[tuple[tuple, Tensor]]:
    """Settings and rows of every perturbation (name, *settings, *layers) that touches `layer`; no layers: all."""
    out = []
    for p, rows in (masks or {}).items():
        if p[0] == name and (len(p) == 1 + settings or layer in p[1 + settings :]):
            out.append((p[1 : 1 + settings], rows.reshape(-1, 1, 1)))
    return out
