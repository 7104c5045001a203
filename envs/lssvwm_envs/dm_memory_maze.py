"""Memory Maze as published (Pasukonis et al. 2022, package `memory-maze`, MuJoCo), as a Gymnasium environment."""

from __future__ import annotations

import functools
import importlib
import logging
import os
import subprocess
import sys
from importlib.util import find_spec, module_from_spec
from types import MethodType, ModuleType
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.error import ClosedEnvironmentError, DependencyNotInstalled, InvalidAction, ResetNeeded

from lssvwm_envs.checks import is_action

SIZES = (9, 11, 13, 15)
SMALLEST_IMAGE, LARGEST_IMAGE = 16, 480  # MuJoCo's off-screen buffer is 640 x 480
DEBIAN_PACKAGES = ("libegl1", "libgl1-mesa-dri", "libosmesa6")


class DMMemoryMaze(gym.Env[np.ndarray, np.int64]):
    """A 3D maze with coloured balls. The frame's border has the colour of the one to touch next, which gives reward 1.

    Observations are (image_size, image_size, 3) uint8. Actions: 0 nothing, 1 forward, 2 left, 3 right, 4 forward and
    left, 5 forward and right. Episodes are truncated after 1000, 2000, 3000 or 4000 steps and have no other end. Seeds
    give the same bytes wherever the same OpenGL draws them.

    `info` has, in cells with (0, 0) at the bottom left: "agent_pos" (2,), "agent_dir" (2,) of length 1, "targets_pos"
    (k, 2), and "target_color" (3,), all float32; "maze_layout" (size, size) uint8, 1 where there is no wall, row 0 at
    the bottom; "pose" (4,) float32 (x / size, y / size, cos, sin).

    Args:
        size: cells per side, 9, 11, 13 or 15.
        image_size: pixels per side, 16 to 480.
        render_mode: "rgb_array" renders what was observed last; None renders nothing.

    Raises:
        ValueError: for another size or image size.
        gymnasium.error.DependencyNotInstalled: without the extra `memory-maze`, or without an OpenGL that draws
            off-screen. MUJOCO_GL is respected; where it is not set it becomes egl, or osmesa if egl does not work.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 4}

    def __init__(self, size: int = 9, image_size: int = 64, render_mode: str | None = None):
        if size not in SIZES:
            raise ValueError(f"There is no published Memory Maze of size {size!r}; choose 9, 11, 13 or 15.")
        if not SMALLEST_IMAGE <= image_size <= LARGEST_IMAGE:
            raise ValueError(f"image_size must be {SMALLEST_IMAGE} to {LARGEST_IMAGE} pixels, got {image_size}.")
        self.size, self.render_mode = size, render_mode
        self.observation_space = spaces.Box(0, 255, (image_size, image_size, 3), np.uint8)
        self.action_space = spaces.Discrete(6)
        make = getattr(_tasks(), f"memory_maze_{size}x{size}")
        try:
            # The package draws its border over the whole of an image below 64 pixels, so it is drawn here.
            self._env: Any = make(global_observables=True, target_color_in_image=False, camera_resolution=image_size)
        except Exception as error:  # the first frame is rendered here, and every backend fails in its own way
            raise _no_rendering(error) from error
        for target in self._env.task._targets:
            target._update_activation = MethodType(_update_activation, target)
        self._frame: np.ndarray | None = None
        self._ended = True  # there is no episode yet

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode in a new maze, which takes about a second: MuJoCo compiles it.

        Raises:
            gymnasium.error.ClosedEnvironmentError: after `close`.
        """
        super().reset(seed=seed)
        if self._env is None:
            raise ClosedEnvironmentError("The environment is closed; make a new one.")
        self._reseed(int(self.np_random.integers(2**31)))
        self._ended = False
        return self._observe(self._env.reset().observation)

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Act for a quarter of a second.

        Raises:
            gymnasium.error.ResetNeeded: before the first `reset` and after an episode's end.
            gymnasium.error.InvalidAction: if there is no such action.
        """
        if self._ended:
            raise ResetNeeded("No episode is running; call reset() before step().")
        if not is_action(action, self.action_space):
            raise InvalidAction(f"Action {action!r} is not one of 0 to 5.")
        timestep = self._env.step(int(action))
        self._ended = timestep.last()
        frame, info = self._observe(timestep.observation)
        return frame, float(timestep.reward), False, self._ended, info

    def render(self) -> Any:
        """The first-person frame (image_size, image_size, 3) uint8 if `render_mode` is "rgb_array", else None.

        Raises:
            gymnasium.error.ResetNeeded: before the first `reset`.
        """
        if self.render_mode is None:
            return None
        if self._frame is None:
            raise ResetNeeded("There is no frame yet; call reset() before render().")
        return self._frame.copy()

    def close(self) -> None:
        """Free MuJoCo's memory; doing so twice is harmless."""
        if self._env is not None:
            self._env.close()
            self._env, self._ended = None, True

    def _reseed(self, seed: int) -> None:
        # As the package does on construction, which takes twice as long as a reset. The maze generator cannot be
        # seeded again and is replaced.
        random_state = np.random.RandomState(seed)
        arena = self._env.task.root_entity
        maze = arena.maze
        arena._maze = type(maze)(
            height=maze.height,
            width=maze.width,
            max_rooms=maze.max_rooms,
            room_min_size=maze.room_min_size,
            room_max_size=maze.room_max_size,
            max_variations=maze.max_variations,
            spawns_per_room=maze.spawns_per_room,
            objects_per_room=maze.objects_per_room,
            random_seed=random_state.randint(2**31),
        )
        self._env.random_state.set_state(random_state.get_state())

    def _observe(self, seen: dict[str, np.ndarray]) -> tuple[np.ndarray, dict[str, Any]]:
        names = ("agent_pos", "agent_dir", "targets_pos", "target_color")
        info = {name: np.array(seen[name], np.float32) for name in names}
        info["maze_layout"] = np.array(seen["maze_layout"], np.uint8)
        info["pose"] = np.concatenate([info["agent_pos"] / self.size, info["agent_dir"]])
        self._frame = _with_border(seen["image"], seen["target_color"])
        return self._frame.copy(), info


def _with_border(image: np.ndarray, color: np.ndarray) -> np.ndarray:
    """The image inside the border that shows the colour to look for, as wide and dark as in the package."""
    width = max(1, int(2 * np.sqrt(len(image) // 64)))
    framed = np.empty_like(image)
    framed[:] = (color * 255 * 0.7).astype(np.uint8)
    framed[width:-width, width:-width] = image[width:-width, width:-width]
    return framed


def _update_activation(target: Any, physics: Any) -> None:
    """The same as dm_control's method of that name, without its loop over contacts in Python.

    It runs for every ball in each of a step's 50 physics steps, where the loop took three fifths of all time.
    """
    if not target._activated and (physics.data.contact.geom == target._geom_id).any():
        target._activated = True
        physics.bind(target.material).rgba[-1] = 0


@functools.cache
def _tasks() -> ModuleType:
    """The package's `tasks`, imported once a working OpenGL is chosen."""
    try:
        spec = find_spec("memory_maze")
        if spec is None or spec.origin is None:  # any folder of that name passes for a package, but has no origin
            raise ModuleNotFoundError("No module named 'memory_maze'")
        _choose_gl()
        importlib.import_module("dm_control._render")
    except ModuleNotFoundError as error:
        raise DependencyNotInstalled(
            f'The published Memory Maze needs an extra ({error}); run `pip install "lssvwm-rl[memory-maze]"`.'
        ) from error
    except Exception as error:  # PyOpenGL fails with ImportError, AttributeError and others
        raise _no_rendering(error) from error
    # Around the package's __init__, which imports the abandoned `gym` only to register ids there. Installing gym would
    # make Stable-Baselines3 print its notice of abandonment in every program.
    whole = sys.modules.get("memory_maze")
    if whole is None:
        sys.modules["memory_maze"] = module_from_spec(spec)
    try:
        tasks = importlib.import_module("memory_maze.tasks")
    finally:
        if whole is None:
            del sys.modules["memory_maze"]  # so that whoever wants all of it can still import it
    # A warning at every reset, which says only that the agent cannot fly.
    logging.getLogger("absl").addFilter(lambda record: "Entity with no free joint" not in record.getMessage())
    return tasks


def _choose_gl() -> None:
    # dm_control reads the variable when it is imported, and a failed import of PyOpenGL cannot be undone: hence another
    # process. Elsewhere than on Linux dm_control's own choice is right.
    if "MUJOCO_GL" in os.environ or "dm_control._render" in sys.modules or sys.platform != "linux":
        return
    probe = "from dm_control import _render\nwith _render.Renderer(16, 16).make_current(): pass"
    tried = subprocess.run(
        [sys.executable, "-c", probe], env={**os.environ, "MUJOCO_GL": "egl"}, capture_output=True, check=False
    )
    os.environ["MUJOCO_GL"] = "egl" if tried.returncode == 0 else "osmesa"


def _no_rendering(error: Exception) -> DependencyNotInstalled:
    return DependencyNotInstalled(
        f"MuJoCo cannot render with MUJOCO_GL={os.environ.get('MUJOCO_GL', '')!r} ({error}); run "
        f"`make setup-memory-maze` or install the Debian packages {', '.join(DEBIAN_PACKAGES)}."
    )
