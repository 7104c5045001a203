"""What walks read of MiniGrid-Memory, which an agent does not see."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

LEFT, RIGHT, FORWARD = 0, 1, 2
DIRECTIONS = ((1, 0), (0, 1), (-1, 0), (0, -1))
Pose = tuple[int, int, int]
"""x, y, direction."""


class Sights:
    """From where the object of the first room is in view, looked up once per kind of world."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], frozenset[Pose]] = {}

    def of(self, env: Any) -> frozenset[Pose]:
        """All poses that see it in an unwrapped environment."""
        # Walls decide what is seen, and these follow from the size and the length of the corridor.
        key = (env.width, env.success_pos[0])
        if key not in self._known:
            before = env.agent_pos, env.agent_dir
            seen = set()
            for i in range(1, env.width - 1):
                for j in range(1, env.height - 1):
                    for direction in range(4):
                        env.agent_pos, env.agent_dir = np.array((i, j)), direction
                        if env.grid.get(i, j) is None and env.agent_sees(*first_object(env)):
                            seen.add((i, j, direction))
            env.agent_pos, env.agent_dir = before
            self._known[key] = frozenset(seen)
        return self._known[key]


def first_object(env: Any) -> tuple[int, int]:
    """The cell (x, y) of the object in the first room."""
    return 1, env.height // 2 - 1


def pose_of(env: Any) -> Pose:
    """Where the agent is."""
    return int(env.agent_pos[0]), int(env.agent_pos[1]), int(env.agent_dir)


def ends(env: Any) -> tuple[tuple[int, int], tuple[int, int]]:
    """The cells of success and of failure."""
    return tuple(env.success_pos), tuple(env.failure_pos)


def moved(pose: Pose, action: int) -> Pose:
    """The pose after an action, if nothing is in the way."""
    x, y, direction = pose
    if action == FORWARD:
        return x + DIRECTIONS[direction][0], y + DIRECTIONS[direction][1], direction
    return x, y, (direction + (1 if action == RIGHT else -1)) % 4


def next_poses(env: Any, pose: Pose) -> list[tuple[int, Pose]]:
    """Actions and the poses that they lead to, but into walls and objects; forward first."""
    steps = [(action, moved(pose, action)) for action in (FORWARD, LEFT, RIGHT)]
    return [(action, after) for action, after in steps if env.grid.get(*after[:2]) is None]


def way(
    env: Any,
    start: Pose,
    goal: Callable[[Pose], bool],
    target: tuple[int, int] | None = None,
    avoid: frozenset[Pose] = frozenset(),
) -> list[int] | None:
    """Fewest actions from a pose to the goal, through none of the poses to avoid and entering no end of the world but
    `target`; None if there is no way."""
    queue: deque[tuple[Pose, list[int]]] = deque([(start, [])])
    visited = {start, *avoid}
    while queue:
        pose, actions = queue.popleft()
        if goal(pose):
            return actions
        for action, after in next_poses(env, pose):
            if after in visited or (after[:2] in ends(env) and after[:2] != target):
                continue
            visited.add(after)
            queue.append((after, [*actions, action]))
    return None
