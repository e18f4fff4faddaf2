"""Drive a vehicle safely to its goal: propose, bound the risk, optimise, certify, replan; safe stop when nothing holds.

  safeplan plan env=hovercraft seed=0
  safeplan plan env=driving planner.gamma=0.005 guidance=energy
  safeplan plan env=hovercraft -m seed='range(0,10)'
  safeplan plan system.file=my_vehicle.py scene=scene.yaml      (runs the code in my_vehicle.py)

Writes plan.png, plan.gif and plan.json under runs/NAME/seed_SEED; `safeplan verify` checks the last one.
"""

from collections.abc import Sequence
from pathlib import Path

from tqdm.auto import tqdm

from safeplan import build
from safeplan.cli.app import shown, value_of
from safeplan.schema import PlanConfig as Config
from safeplan.strict_json import write
from safeplan.types import Plan


def nested(overrides: Sequence[str]) -> dict[str, type]:
    """Settings whose type the schema leaves open."""
    return {"planner": build.settings_class("planner")}


def arguments(argv: Sequence[str]) -> list[str]:
    """Name the run after a vehicle of your own."""
    file = value_of(argv, "system.file")
    if file and value_of(argv, "name") is None:
        return [*argv, f"name=plan_{Path(file).stem}"]
    return list(argv)


def run(cfg: Config, out: Path) -> str:
    """Fly one mission and write what happened."""
    from safeplan.cli.verdict import record, verdict
    from safeplan.evaluation.plots import mission_animation, mission_figure
    from safeplan.planning import run_mission

    device = build.device(cfg.device)
    if cfg.system.file:
        print(f"running your code: {cfg.system.file}", flush=True)
    task = build.task(cfg.env, "demo", cfg.seed, cfg.system.file, cfg.scene)
    planner = build.planner(task, cfg, device)
    with tqdm(total=round(task.max_seconds, 1), unit="s", disable=None, leave=False) as bar:

        def show(t: float, plan: Plan) -> None:
            bar.set_postfix_str(plan.status.value, refresh=False)
            bar.update(round(t, 3) - bar.n)

        mission = run_mission(task.world, planner, cfg.seed, max_seconds=task.max_seconds, on_plan=show)
    write(out / "plan.json", record(mission, planner.cfg, task.source, cfg.seed), indent=None)
    title = f"{task.system.name}, seed {cfg.seed}: {'goal reached' if mission.safe else 'goal not reached safely'}"
    mission_figure(task.system, task.scene, mission, out / "plan.png", title)
    files = ["plan.png", "plan.json"]
    if cfg.animate:
        mission_animation(task.system, task.scene, mission, out / "plan.gif")
        files.insert(1, "plan.gif")
    print(verdict(mission))
    return f"results: {shown(out)}/ ({', '.join(files)}); check them: safeplan verify {shown(out / 'plan.json')}"
