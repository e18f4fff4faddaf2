"""FISOR's update as one CUDA graph: its few hundred kernels are launched by one call, its three lanes run side by side.

A GPU does the arithmetic of an update in a fraction of the time that launching it kernel by kernel takes. The graph is
captured once, on the first update after construction or `load_state_dict`, and replayed for every one.

What is random: each update takes one number from the generator that it is given (by `train` named after seed and
update), and seeds the device's own generator with it; steps, noise, budgets and dropout are drawn on the device inside
the graph. So update i draws the same whether it follows a checkpoint or another update. They are other draws than those
of the update without a graph, which come from the CPU. Nothing runs between loading and the first replay that would
leave a trace: the runs that warm up are undone.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from safeplan.errors import ConfigError
from safeplan.feasibility.agent import Fisor, actor_lr, seeded
from safeplan.feasibility.budget import draw_shares
from safeplan.feasibility.config import FisorConfig
from safeplan.feasibility.lanes import Lanes, StreamLanes

WARM = 3  # runs before the capture: libraries choose and load their kernels


class GraphedFisor(Fisor):
    """`Fisor` on a GPU; arguments as there. Batches must all have the shapes of the first.

    No shape may depend on the data: rows of weight 0 are computed, which changes no gradient (`skip_unweighted`).
    """

    skips = False

    def __init__(self, obs_size: int, act_size: int, config: FisorConfig | None = None, **kw: Any) -> None:
        super().__init__(obs_size, act_size, config, **kw)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: dict[str, Tensor] = {}
        self._names: tuple[str, ...] = ()
        self._values = torch.empty(0)
        self._rates = torch.full((self.config.actor_steps,), self.config.lr, device=self.device)

    def update(self, batch: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """As `Fisor.update`, with other draws."""
        seed = int(torch.randint(2**62, (1,), generator=generator, device=generator.device))
        if self._graph is None:
            self._capture(batch)
        self.fill(batch)
        with seeded(seed, self.device):
            self.replay()
        self.updates += 1
        self.actor_updates += self.config.actor_steps
        values = self._values.clone()  # the next replay writes there again
        return dict(zip(self._names, values.unbind(), strict=True))

    def replay(self) -> None:
        """The update of `captured` once more, on what is filled in. ConfigError: there was no `update` yet."""
        if self._graph is None:
            raise ConfigError("GraphedFisor.replay: nothing is captured yet; call update first")
        self._graph.replay()

    def fill(self, batch: Mapping[str, Tensor]) -> None:
        """Put a batch and the actor's rates where the graph reads them."""
        if not self._inputs:
            self._inputs = {k: torch.empty_like(v, device=self.device) for k, v in batch.items()}
        torch._foreach_copy_(list(self._inputs.values()), [batch[k] for k in self._inputs])  # pyright: ignore[reportPrivateImportUsage]
        for i in range(self.config.actor_steps):
            self._rates[i].fill_(actor_lr(self.config, self.actor_updates + i))

    def captured(self, lanes: Lanes | None = None) -> dict[str, Tensor]:
        """What the graph holds: the draws and the update, from the device's own generator and the filled batch."""
        c, rows = self.config, len(self._inputs["actions"])
        share = draw_shares(rows, device=self.device) if c.budget > 0 else None
        t = torch.randint(0, c.steps, (rows,), device=self.device).float()
        noise = torch.randn(self._inputs["actions"].shape, device=self.device)
        return self.body(self._inputs, t, noise, share, self._hidden(rows), lanes)

    def _rate(self) -> Tensor:
        return self._rates[self.actor_updates % self.config.actor_steps]

    def _capture(self, batch: Mapping[str, Tensor]) -> None:
        counts, lanes = (self.updates, self.actor_updates), StreamLanes(self.device)
        self.fill(batch)
        self._moments()
        state = self._state()
        before = [v.detach().clone() for v in state]
        side = torch.cuda.Stream(self.device)
        side.wait_stream(torch.cuda.current_stream(self.device))
        with seeded(0, self.device), torch.cuda.stream(side):
            for _ in range(WARM):
                self.captured(lanes)
        torch.cuda.current_stream(self.device).wait_stream(side)
        for optimiser in self.optimisers.values():
            optimiser.zero_grad(set_to_none=True)
        with torch.no_grad():
            torch._foreach_copy_(state, before)  # pyright: ignore[reportPrivateImportUsage]
        self._mark(capturable=True)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            found = self.captured(lanes)
            self._names, self._values = tuple(found), torch.stack(list(found.values()))
        self._graph = graph
        self.updates, self.actor_updates = counts
        self._as_anywhere()

    def _as_anywhere(self) -> None:
        """Optimisers whose state is a checkpoint of any device: the graph has rates of its own."""
        self._mark(capturable=False)
        self.optimisers["actor"].param_groups[0]["lr"] = self.config.lr

    def _state(self) -> list[Tensor]:
        """Every tensor that an update changes."""
        held = [v for o in self.optimisers.values() for state in o.state.values() for v in state.values()]
        return [*(p.detach() for p in self.nets.parameters()), *held]

    def _moments(self) -> None:
        """Adam's moments, which it makes on its first step otherwise, where they are missing."""
        for optimiser in self.optimisers.values():
            for p in (p for group in optimiser.param_groups for p in group["params"]):
                if not optimiser.state[p]:
                    optimiser.state[p] = {
                        "step": torch.zeros((), device=p.device),
                        "exp_avg": torch.zeros_like(p),
                        "exp_avg_sq": torch.zeros_like(p),
                    }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`; the graph is captured anew."""
        self._graph = None
        super().load_state_dict(state)

    def _mark(self, **settings: Any) -> None:
        for optimiser in self.optimisers.values():
            for group in optimiser.param_groups:
                group.update(settings)


def fisor_class(config: FisorConfig, device: str | torch.device) -> type[Fisor]:
    """`GraphedFisor` or `Fisor`, as `config.graph` says.

    Raises:
        ConfigError: a graph is asked for on a device that has none.
    """
    cuda = torch.device(device).type == "cuda"
    if config.graph == "on" and not cuda:
        raise ConfigError(f"fisor.graph is 'on', and device {device} has no CUDA graphs; use auto or off")
    return GraphedFisor if cuda and config.graph != "off" else Fisor
