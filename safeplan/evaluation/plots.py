"""Pictures of a mission: one still with the evidence, one animation. Colours are safe for colour-blind readers."""

from pathlib import Path
from typing import Any

import numpy as np

from safeplan.dynamics.system import System
from safeplan.evaluation.colours import BLUE, GREEN, GREY, ORANGE, RED, SKY
from safeplan.planning.mission import Mission
from safeplan.reach import duration, rollout, stretches
from safeplan.types import Array, Plan, Scene


def _obstacles(ax: Any, scene: Scene, centers: Array, **style: Any) -> list:
    """Draw all obstacles at `centers [K, 2]`."""
    from matplotlib.patches import Circle, FancyBboxPatch
    from matplotlib.transforms import Affine2D

    out = []
    for o, (x, y) in zip(scene.obstacles, centers, strict=True):
        if o.hx == o.hy == 0:
            out.append(ax.add_patch(Circle((x, y), o.r, **style)))
            continue
        pad = max(o.r, 1e-6)
        round_ = f"round,pad={pad},rounding_size={pad}"
        box = FancyBboxPatch((-o.hx, -o.hy), 2 * o.hx, 2 * o.hy, boxstyle=round_, mutation_aspect=1, **style)
        ax.add_patch(box).set_transform(Affine2D().rotate(o.yaw).translate(x, y) + ax.transData)
        out.append(box)
    return out


def _vehicle(ax: Any, system: System, x: Array, **style: Any) -> list:
    from matplotlib.patches import Circle

    px, py = x[system.position[0]], x[system.position[1]]
    yaw = x[system.yaw] if system.yaw is not None else 0.0
    c, s = np.cos(yaw), np.sin(yaw)
    discs = [Circle((px + c * dx - s * dy, py + s * dx + c * dy), r, **style) for dx, dy, r in system.footprint]
    return [ax.add_patch(d) for d in discs]


def reachable(system: System, plan: Plan, particles: int = 64, every: int = 3) -> Array:
    """Where the vehicle may be under a plan: positions `[T, P, 2]` of particles at every `every`-th step."""
    stretch = plan.belief.stretch_s
    draw = plan.belief.sample(particles, stretches(duration(plan.reference), stretch), np.random.default_rng(0))
    flow = rollout(system, draw, plan.reference, stretch)
    steps = np.arange(every, plan.moving + 1, every) * system.substeps
    return flow.states[steps][:, list(system.position)].transpose(0, 2, 1)


def _stage(ax: Any, scene: Scene) -> None:
    from matplotlib.patches import Circle, Rectangle

    xlo, ylo, xhi, yhi = scene.bounds
    ax.add_patch(Rectangle((xlo, ylo), xhi - xlo, yhi - ylo, fill=False, lw=1.5, ec="#30343B", zorder=1))
    ax.add_patch(Circle((scene.goal.x, scene.goal.y), scene.goal.radius, fc=GREEN, ec=GREEN, alpha=0.35, zorder=1))
    pad = 0.02 * max(xhi - xlo, yhi - ylo)
    ax.set_xlim(xlo - pad, xhi + pad)
    ax.set_ylim(ylo - pad, yhi + pad)
    ax.set_aspect("equal")
    ax.set_xlabel("x (m)")
    ax.set_ylabel("y (m)")


def mission_figure(system: System, scene: Scene, mission: Mission, path: str | Path, title: str = "") -> Path:
    """Write `plan.png`: the path flown among the obstacles, proposals of some plans, and risk and clearance in time."""
    import matplotlib

    matplotlib.use("Agg", force=False)
    import matplotlib.pyplot as plt

    path = Path(path)
    xlo, ylo, xhi, yhi = scene.bounds
    tall = (
        float(np.clip(8.6 * (yhi - ylo) / (xhi - xlo), 1.2, 6.5)) + 0.6
    )  # the stage keeps its shape, the page follows
    fig, (ax, low) = plt.subplots(2, 1, figsize=(9, tall + 2.4), height_ratios=(tall, 2.4), layout="constrained")
    _stage(ax, scene)
    n = len(mission.path)
    frames = np.unique(np.linspace(0, n - 1, 5).astype(int))
    for i, f in enumerate(frames):
        fade = 0.12 + 0.5 * i / max(len(frames) - 1, 1)
        _obstacles(ax, scene, mission.centers[f], fc=GREY, ec="none", alpha=fade, zorder=2)
        _vehicle(ax, system, mission.path[f], fc=BLUE, ec="none", alpha=0.25 + 0.5 * i / len(frames), zorder=6)
    shown = mission.plans[:: max(1, len(mission.plans) // 5)]
    for j, (_, plan) in enumerate(shown):
        for i, line in enumerate(plan.proposals[:8]):
            label = "proposals" if i == j == 0 else None
            ax.plot(*line.T, color=ORANGE, lw=0.7, alpha=0.45, zorder=3, label=label)
        cloud = reachable(system, plan).reshape(-1, 2)
        ax.plot(*cloud.T, ".", color=GREEN, ms=1.2, alpha=0.5, zorder=4, label="reachable" if j == 0 else None)
        ref = plan.reference.states[: plan.moving + 1, list(system.position)]
        ax.plot(*ref.T, color=SKY, lw=1.2, alpha=0.8, zorder=4, label="plans" if j == 0 else None)
    ix, iy = system.position
    ax.plot(mission.path[:, ix], mission.path[:, iy], color=BLUE, lw=2.2, zorder=5, label="path flown")
    ax.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=4, frameon=False, fontsize=8)
    ax.set_title(title, fontsize=10, loc="left")
    times = [t for t, _ in mission.plans]
    bounds = [p.certificate.upper if p.certificate else np.nan for _, p in mission.plans]
    estimates = [p.risk.estimate if p.risk else np.nan for _, p in mission.plans]
    low.step(times, bounds, where="post", color=RED, lw=1.8, label="certified upper bound of each plan")
    low.step(times, estimates, where="post", color=BLUE, lw=1.2, label="risk estimate")
    if mission.plans and mission.plans[0][1].certificate:
        low.axhline(mission.plans[0][1].certificate.gamma, color="#30343B", lw=1, ls="--", label="bound asked for")
    stops = [t for t, p in mission.plans if p.stops]
    low.plot(stops, np.full(len(stops), 1e-3), "v", color=ORANGE, ms=6, label="safe stop taken")
    low.set_yscale("symlog", linthresh=1e-3)
    low.set_ylim(0, 1)
    low.set_xlabel("time (s)")
    low.set_ylabel("collision probability")
    low.legend(fontsize=8, ncols=2)
    temporary = path.with_name(f".{path.name}")
    fig.savefig(temporary, dpi=130, format="png")
    plt.close(fig)
    temporary.replace(path)
    return path


def mission_animation(system: System, scene: Scene, mission: Mission, path: str | Path, fps: int = 10) -> Path:
    """Write `plan.gif`: vehicle, obstacles, current plan with the spread of its particles, proposals."""
    import matplotlib

    matplotlib.use("Agg", force=False)
    import matplotlib.pyplot as plt
    from PIL import Image

    path = Path(path)
    xlo, ylo, xhi, yhi = scene.bounds
    width = 8.0
    fig, ax = plt.subplots(
        figsize=(width, max(2.2, width * (yhi - ylo) / (xhi - xlo) + 0.7)), layout="constrained", dpi=80
    )
    _stage(ax, scene)
    h = system.dt / system.substeps
    stride = max(1, round(1 / (fps * h)), len(mission.path) // 160)
    ix, iy = system.position
    (trail,) = ax.plot([], [], color=BLUE, lw=2, zorder=5)
    (current,) = ax.plot([], [], color=SKY, lw=2, zorder=4)
    title = ax.set_title("", fontsize=9, loc="left")
    images, moving, shown, cloud = [], [], -1, np.zeros((0, 2))
    when = np.array([t for t, _ in mission.plans])
    for f in [*range(0, len(mission.path), stride), len(mission.path) - 1]:
        for artist in moving:
            artist.remove()
        moving = _obstacles(ax, scene, mission.centers[f], fc=GREY, ec="#30343B", lw=0.6, alpha=0.85, zorder=2)
        color = RED if mission.collided and f == len(mission.path) - 1 else BLUE
        moving += _vehicle(ax, system, mission.path[f], fc=color, ec="white", lw=0.8, zorder=6)
        trail.set_data(mission.path[: f + 1, ix], mission.path[: f + 1, iy])
        if len(when):
            i = max(0, int(np.searchsorted(when, f * h + 1e-9, side="right")) - 1)
            plan = mission.plans[i][1]
            ref = plan.reference.states[: plan.moving + 1, [ix, iy]]
            current.set_data(*ref.T)
            if i != shown:
                shown, cloud = i, reachable(system, plan).reshape(-1, 2)
            moving += ax.plot(*cloud.T, ".", color=GREEN, ms=1.5, alpha=0.6, zorder=4)
            for line in plan.proposals[:8]:
                moving += ax.plot(*line.T, color=ORANGE, lw=0.8, alpha=0.5, zorder=3)
            bound = f"bound {plan.certificate.upper:.2%}" if plan.certificate else "no certificate"
            title.set_text(f"t = {f * h:4.1f} s   {plan.status.value}   {bound}")
        fig.canvas.draw()
        images.append(Image.fromarray(np.asarray(fig.canvas.buffer_rgba())[..., :3].copy()).quantize(64))  # type: ignore[attr-defined]
    plt.close(fig)
    temporary = path.with_name(f".{path.name}")
    duration = [int(1000 * stride * h)] * (len(images) - 1) + [1500]
    images[0].save(temporary, format="gif", save_all=True, append_images=images[1:], duration=duration, loop=0)
    temporary.replace(path)
    return path
