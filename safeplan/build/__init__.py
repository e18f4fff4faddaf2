"""Settings to objects, through closed tables keyed by `kind`. The only place that knows both configs and classes."""

from safeplan.build.learners import learner, log
from safeplan.build.planners import chain, planner, planner_config, policy, proposer, shipped_weights, weight_digests
from safeplan.build.settings import COMMANDS, NEEDS, SETTINGS, freeze, register, settings_class, thaw
from safeplan.build.studies import check_study, episode
from safeplan.build.tasks import ENV_IDS, SYSTEMS, Task, device, env, system_of, task

__all__ = [
    "COMMANDS",
    "ENV_IDS",
    "NEEDS",
    "SETTINGS",
    "SYSTEMS",
    "Task",
    "chain",
    "check_study",
    "device",
    "env",
    "episode",
    "freeze",
    "learner",
    "log",
    "planner",
    "planner_config",
    "policy",
    "proposer",
    "register",
    "settings_class",
    "shipped_weights",
    "system_of",
    "task",
    "thaw",
    "weight_digests",
]
