"""The picture of a trace shows every method and branch of the run, merged over batches."""

import pytest
import torch

from safeplan.diffusion import Trace, VPCosine, ddim
from safeplan.diffusion.analytic import ring
from safeplan.errors import ShapeError
from safeplan.evaluation import trace_plot
from safeplan.guidance import APG, CFG, AdaptiveGuidance
from safeplan.rng import torch_rng


def run(n: int, steps: int = 4) -> Trace:
    mix, trace = ring(4, 2), Trace()
    cond = {"label": torch.arange(n) % 4}
    noise = torch.randn(n, 2, generator=torch_rng(n, "noise"), dtype=torch.float64)
    ddim(mix, noise, VPCosine().grid(steps), cond, (AdaptiveGuidance(CFG(2.0), 0.99), APG(1.5)), trace=trace)
    return trace


def test_the_picture_names_methods_and_branches(tmp_path, monkeypatch):
    drawn: list[tuple[str, list]] = []
    band = trace_plot._band
    monkeypatch.setattr(trace_plot, "_band", lambda ax, rows, name: (drawn.append((name, rows)), band(ax, rows, name)))
    path = trace_plot.trace_figure([run(5), run(3)], tmp_path / "trace.png", "ring")
    assert path.read_bytes().startswith(b"\x89PNG") and [p.name for p in tmp_path.iterdir()] == ["trace.png"]
    names = [name for name, _ in drawn]
    assert "null/main" in names and any("APG" in n for n in names)
    assert all(r is None or r.shape == (8,) for _, rows in drawn for r in rows), "samples of both batches"


def test_traces_that_do_not_belong_together_are_refused(tmp_path):
    with pytest.raises(ShapeError, match=r"\[4, 5\] evaluations"):
        trace_plot.trace_figure([run(2), run(2, 5)], tmp_path / "trace.png")
    with pytest.raises(ShapeError, match="at least 1"):
        trace_plot.trace_figure([], tmp_path / "trace.png")
