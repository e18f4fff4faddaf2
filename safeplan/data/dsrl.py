"""The 38 tasks of DSRL [dsrl]: files, extremes of their episodes, lengths, cost limits, normalisation.

The numbers are those of `dsrl.infos` 0.1.0, every digit; `tests/dsrl` compares them with the installed package.
"""

from dataclasses import dataclass

from safeplan.errors import DataError
from safeplan.schema import did_you_mean
from safeplan.types import Array

SUITES = ("bullet", "safety", "metadrive")


@dataclass(frozen=True)
class Task:
    """One task and its file.

    `return_min`, `return_max`, `cost_min`, `cost_max`: extremes over the episodes of the file; `cap` the cost above
    which episodes were left out when the file was made, `episodes` how many are in it (both from its name); `steps` the
    length of an episode.
    """

    name: str
    suite: str
    cap: int
    episodes: int
    return_min: float
    return_max: float
    cost_min: float
    cost_max: float
    steps: int

    @property
    def version(self) -> str:
        """The version in id and file name: the tasks on velocity are v1."""
        return "v1" if self.name.endswith("Velocity") else "v0"

    @property
    def id(self) -> str:
        """The name in gymnasium, once `safeplan_envs.dsrl` is imported."""
        if self.suite == "metadrive":
            return f"OfflineMetadrive-{self.name}-v0"
        return f"Offline{self.name}{'Gymnasium' * (self.suite == 'safety')}-{self.version}"

    @property
    def file(self) -> str:
        """The name of its HDF5 file."""
        stem = {
            "bullet": f"Safety{self.name}",
            "safety": f"Safety{self.name}Gymnasium",
            "metadrive": f"SafeMetaDrive-{self.name}",
        }[self.suite]
        return f"{stem}-{self.version}-{self.cap}-{self.episodes}.hdf5"

    @property
    def limits(self) -> tuple[float, float, float]:
        """The three limits on an episode's cost that DSRL's benchmark averages over (OSRL's evaluation)."""
        return (20.0, 40.0, 80.0) if self.suite == "safety" else (10.0, 20.0, 40.0)

    @property
    def fisor_limit(self) -> float:
        """The one limit of FISOR's published code [fisor], the same for all suites.

        Its paper may divide by another one outside Safety-Gymnasium: costs from there must not be set beside these
        before that is checked.
        """
        return 10.0


# name, suite, cap, episodes, least and greatest return, least and greatest cost, steps
_ROWS = (
    Task("AntCircle", "bullet", 200, 5728, 0.0177031010389328, 460.7091979980469, 0.0, 200.0, 500),
    Task("AntRun", "bullet", 150, 1816, 0.001767391717990563, 955.4818725585938, 0.0, 150.0, 200),
    Task("BallCircle", "bullet", 80, 886, 0.38312244415283203, 881.46337890625, 0.0, 80.0, 200),
    Task("BallRun", "bullet", 80, 940, 26.339754104614258, 1327.445556640625, 0.0, 80.0, 100),
    Task("CarCircle", "bullet", 100, 1450, 3.484419822692871, 534.3060913085938, 0.0, 100.0, 300),
    Task("CarRun", "bullet", 40, 651, 204.28726196289062, 574.6533203125, 0.0, 40.0, 200),
    Task("DroneCircle", "bullet", 100, 1923, 207.794189453125, 996.38916015625, 0.0, 100.0, 300),
    Task("DroneRun", "bullet", 140, 1990, 10.557029724121094, 682.8330078125, 0.0, 140.0, 200),
    Task("CarButton1", "safety", 250, 2656, 0.0028926206826067613, 44.420003345738984, 0.0, 250.0, 1000),
    Task("CarButton2", "safety", 300, 3755, 0.001767391717990563, 41.99513815522894, 0.0, 300.0, 1000),
    Task("CarCircle1", "safety", 250, 1271, 8.037073135375977, 24.94155502319336, 0.0, 250.0, 500),
    Task("CarCircle2", "safety", 400, 940, 5.113386154174805, 25.950098037719727, 0.0, 398.0, 500),
    Task("CarGoal1", "safety", 120, 1671, 0.012232819540852091, 39.907809198384705, 0.0, 120.0, 1000),
    Task("CarGoal2", "safety", 200, 4105, 0.001032874531954775, 28.902897990056502, 0.0, 200.0, 1000),
    Task("CarPush1", "safety", 200, 2871, 0.013700173533941762, 16.304467598905237, 0.0, 200.0, 1000),
    Task("CarPush2", "safety", 250, 4407, 0.00029391133526335267, 15.141648491514314, 0.0, 250.0, 1000),
    Task("PointButton1", "safety", 200, 2268, 0.008822109034937853, 41.19301568767707, 0.0, 200.0, 1000),
    Task("PointButton2", "safety", 250, 3288, 0.014114166087574098, 42.8985953616709, 0.0, 250.0, 1000),
    Task("PointCircle1", "safety", 200, 1098, 20.067626953125, 61.72819519042969, 0.0, 200.0, 500),
    Task("PointCircle2", "safety", 300, 895, 20.478347778320312, 54.02184295654297, 0.0, 299.0, 500),
    Task("PointGoal1", "safety", 100, 2022, 0.01196012764197707, 30.071114857340543, 0.0, 100.0, 1000),
    Task("PointGoal2", "safety", 200, 3442, 0.002616959830266108, 27.717709787852737, 0.0, 200.0, 1000),
    Task("PointPush1", "safety", 150, 2379, 0.0014001545292344209, 16.518654299293367, 0.0, 150.0, 1000),
    Task("PointPush2", "safety", 200, 3242, 0.0012438183001730607, 14.691039145644403, 0.0, 200.0, 1000),
    Task("AntVelocity", "safety", 250, 2249, 6.1519012451171875, 2976.276611328125, 0.0, 250.0, 1000),
    Task("HalfCheetahVelocity", "safety", 250, 2495, 5.7509765625, 2806.93310546875, 0.0, 250.0, 1000),
    Task("HopperVelocity", "safety", 250, 2240, 37.05154800415039, 1911.396728515625, 0.0, 250.0, 1000),
    Task("SwimmerVelocity", "safety", 200, 1686, 0.07114458084106445, 238.95831298828125, 0.0, 200.0, 1000),
    Task("Walker2dVelocity", "safety", 300, 2729, 18.668498992919922, 3418.223876953125, 0.0, 300.0, 1000),
    Task(
        "easysparse",
        "metadrive",
        85,
        1000,
        20.094310760498047,
        425.8006286621094,
        0.00025356505648232996,
        82.42418670654297,
        1000,
    ),
    Task("easymean", "metadrive", 85, 1000, 22.142553329467773, 425.82440185546875, 0.0, 82.38601684570312, 1000),
    Task("easydense", "metadrive", 85, 1000, 19.71139144897461, 425.81732177734375, 0.0, 80.36358642578125, 1000),
    Task("mediumsparse", "metadrive", 50, 1000, 17.446578979492188, 269.80084228515625, 0.0, 46.46459197998047, 1000),
    Task("mediummean", "metadrive", 50, 1000, 17.032529830932617, 269.8221435546875, 0.0, 46.46154022216797, 1000),
    Task("mediumdense", "metadrive", 50, 1000, 15.102348327636719, 269.7813415527344, 0.0, 46.45858383178711, 1000),
    Task("hardsparse", "metadrive", 85, 1000, 17.247974395751953, 486.80523681640625, 0.0, 85.010009765625, 1000),
    Task(
        "hardmean",
        "metadrive",
        85,
        1000,
        19.387981414794922,
        486.9967956542969,
        0.00033149970113299787,
        84.33995056152344,
        1000,
    ),
    Task("harddense", "metadrive", 85, 1000, 15.386894226074219, 486.63616943359375, 0.0, 84.76679229736328, 1000),
)
TASKS = {task.name: task for task in _ROWS}


def find_task(name: str) -> Task:
    """A task by its name ("BallCircle"), its gymnasium id, or the name of its file.

    Raises:
        DataError: there is no such task.
    """
    for task in _ROWS:
        if name in (task.name, task.id, task.file):
            return task
    known = f"Use one of {', '.join(TASKS)}, or an id like {_ROWS[0].id}"
    raise DataError(f"DSRL task {name!r} is unknown.{did_you_mean(name, TASKS)} {known}")


def normalized_return(task: Task, ret: float | Array) -> float | Array:
    """(R - Rmin) / (Rmax - Rmin) with the extremes of the task's file; may leave [0, 1]. For DSRL's own files only."""
    return (ret - task.return_min) / (task.return_max - task.return_min)


def normalized_cost(cost: float | Array, limit: float) -> float | Array:
    """(C + e) / (l + e) with e = 1 for a limit of 0, else 0; an episode is safe up to 1.

    Raises:
        DataError: a negative limit.
    """
    if not limit >= 0:
        raise DataError(f"cost limit {limit}: must be 0 or more")
    e = 1.0 if limit == 0 else 0.0
    return (cost + e) / (limit + e)
