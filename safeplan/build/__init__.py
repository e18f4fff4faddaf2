"""Settings to objects, through closed tables keyed by `kind`. The only place that knows both configs and classes."""

from safeplan.build.cases import case, plane
from safeplan.build.chains import METHODS, Place, chain
from safeplan.build.flows import flow_config, shipped_flow, shipped_flows, teach_flow
from safeplan.build.images import artist, classifier, image_model
from safeplan.build.learners import image_set, learner, log
from safeplan.build.planners import planner, planner_config, policy, proposer, shipped_weights, weight_digests
from safeplan.build.settings import COMMANDS, NEEDS, SETTINGS, freeze, register, settings_class, thaw
from safeplan.build.studies import check_study, episode
from safeplan.build.tasks import ENV_IDS, SYSTEMS, Task, device, env, system_of, task

__all__ = [
    "COMMANDS",
    "ENV_IDS",
    "METHODS",
    "NEEDS",
    "SETTINGS",
    "SYSTEMS",
    "Place",
    "Task",
    "artist",
    "case",
    "chain",
    "check_study",
    "classifier",
    "device",
    "env",
    "episode",
    "flow_config",
    "freeze",
    "image_model",
    "image_set",
    "learner",
    "log",
    "plane",
    "planner",
    "planner_config",
    "policy",
    "proposer",
    "register",
    "settings_class",
    "shipped_flow",
    "shipped_flows",
    "shipped_weights",
    "system_of",
    "task",
    "teach_flow",
    "thaw",
    "weight_digests",
]
