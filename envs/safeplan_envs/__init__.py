"""Gymnasium environments with known uncertainty; importing this package registers `safeplan/...-v0`.

`gym.make("safeplan_envs:safeplan/Hovercraft-v0", difficulty=1.0, split="eval")`
"""

from gymnasium.envs.registration import register, registry

IDS = {
    "hovercraft": "safeplan/Hovercraft-v0",
    "driving": "safeplan/Driving-v0",
    "point_robot": "safeplan/PointRobot-v0",
}
_CLASSES = {"hovercraft": "HovercraftEnv", "driving": "DrivingEnv", "point_robot": "PointRobotEnv"}

for _name, _id in IDS.items():
    if _id not in registry:  # a reload must not warn
        register(id=_id, entry_point=f"safeplan_envs.{_name}:{_CLASSES[_name]}")

__all__ = ["IDS"]
