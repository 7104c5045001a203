"""Session: what one person plays, a real episode and up to four dreamt futures, without anything of the web."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np

from lssvwm_envs.dream.state import DreamState
from lssvwm_envs.play.controls import action_of, controls_of
from lssvwm_envs.play.files import read_state, state_bytes, video_bytes
from lssvwm_envs.play.moments import KeptStates, Line, Moment, Panel
from lssvwm_envs.play.real import Recorder
from lssvwm_envs.play.settings import Settings
from lssvwm_envs.play.stage import Loaded

Mode = Literal["real", "both", "dream"]
FUTURES = 4
MOST_STEPS = 4096
ALONE = "The real environment cannot be rewound: from here the dream goes on alone."


class Session:
    """A real episode, and futures that are dreamt; all of it changes only in the methods called here.

    Every step of the real environment is committed to the memory, so that a dream can begin at any of its moments.

    Args:
        loaded: what is played.
        settings: to begin with.
        recorder: where real episodes are stored when they end, if `record` is on.
    """

    def __init__(self, loaded: Loaded, settings: Settings, recorder: Recorder | None = None):
        self.loaded, self.settings, self.recorder = loaded, settings, recorder
        self.dreamer, self.kept = loaded.dreamer, KeptStates()
        self.mode: Mode = "dream" if loaded.real is None else "both"
        self.real: Line | None = None
        self.futures: tuple[Line, ...] = ()
        self.selected, self.together, self.recording = 0, False, False
        self.notice = ""
        self._forks = self._names = 0
        self._stored = False
        self.begin()

    # What is shown

    @property
    def controls(self) -> dict[str, Any]:
        """See `controls.controls_of`."""
        setup = self.loaded.offer.setup
        return controls_of(None if setup is None else setup.env_id, self.dreamer.action_space)

    @property
    def shown(self) -> Line | None:
        """The line that is looked at and rewound."""
        if self.mode == "real":
            return self.real
        return self.futures[self.selected] if self.futures else None

    def panels(self) -> list[Panel]:
        """What a page shows, the real line first."""
        real = None if self.mode == "dream" else self.real
        futures = () if self.mode == "real" else self.futures
        found = [] if real is None else [Panel(real, None, False, True, self._state(real).memory)]
        return found + [
            Panel(line, i, i == self.selected, self._is_driven(i), self._state(line).memory)
            for i, line in enumerate(futures)
        ]

    def is_cut(self, moment: Moment) -> bool:
        """Whether a dream is at its horizon."""
        return moment.source != "real" and moment.steps >= self.settings.horizon

    # What can be done

    def begin(self) -> None:
        """A new episode in the world of the seed; a real one unless only the dream is shown.

        Without held-out episodes, a dream begins with the first frame of the real environment; without that either,
        it waits for `begin_with` or `load`.
        """
        self._store_if_recording()
        self.notice, self.futures, self.selected, self.kept = "", (), 0, KeptStates()
        self._forks = self._names = 0
        seed = self.settings.seed
        self.real = None
        if self.loaded.real is not None and (self.mode != "dream" or not self.loaded.has_contexts):
            self._begin_real()
            if self.mode != "real":
                self._futures_of_real()
        elif self.loaded.has_contexts:
            moment, state = self.dreamer.begin(seed, self.settings.denoise_steps)
            self.futures = (self._line(moment, state),)
        else:
            self.notice = "This checkpoint has no episodes to begin in; give a picture or a state file to begin with."

    def begin_next(self) -> None:
        """`begin`, with the next seed."""
        self.settings = replace(self.settings, seed=self.settings.seed + 1)
        self.begin()

    def begin_with(self, frame: np.ndarray) -> None:
        """Dream from a picture (H, W, C) uint8.

        Raises:
            ValueError: if it has another shape than the model's frames.
        """
        shape = tuple(self.dreamer.model.config.frame_shape)
        if frame.shape != shape or frame.dtype != np.uint8:
            raise ValueError(f"A picture of {frame.shape} {frame.dtype} does not fit; give one of {shape} uint8.")
        state = self.dreamer.begin_with(frame, self.settings.seed)
        self._dream_only(Moment(frame, "given"), state)

    def load(self, data: bytes) -> None:
        """Dream on from a state file that `save` wrote.

        Raises:
            ValueError: if it is none, or of another model.
        """
        state = read_state(data, self.dreamer.check)
        self._dream_only(Moment(state.frame, "given", terminated=state.ended, steps=state.steps), state)

    def save(self) -> bytes:
        """A state file of where the shown line is looked at.

        Raises:
            ValueError: if nothing is shown yet.
        """
        return state_bytes(self._state(self._shown()))

    def video(self) -> bytes:
        """An MP4 of all that is shown, up to where it is looked at.

        Raises:
            ValueError: if nothing is shown yet.
        """
        self._shown()
        return video_bytes([[moment.frame for moment in panel.line.past] for panel in self.panels()])

    def set_mode(self, mode: Any) -> None:
        """Show and drive the real environment, dreams, or both.

        From the real environment a dream goes on with the memory of all that was seen, from the moment that is looked
        at; with both, one goes on from the real episode's last moment. Dreams that were there are let go then.

        Raises:
            ValueError: if there is no such mode, or no real environment.
        """
        if mode not in get_args(Mode):
            raise ValueError(f"There is no mode of that name; use {', '.join(get_args(Mode))}.")
        if mode != "dream" and self.loaded.real is None:
            raise ValueError("There is no real environment for this checkpoint here; dreams alone can be played.")
        before, self.mode, self.notice = self.mode, mode, ""
        if mode != "dream" and self.real is None:
            self.begin()
        elif self.real is not None and mode == "both" and before == "dream":
            self.real = self.real.looked_at(MOST_STEPS)
            self._futures_of_real()
        elif self.real is not None and mode == "real":
            self.real = self.real.looked_at(MOST_STEPS) if before == "dream" else self.real
        elif before == "real":
            self._futures_of_real()

    def act(self, value: Any) -> None:
        """Take an action, a JSON value, wherever it drives.

        Raises:
            gymnasium.error.InvalidAction: if it is not in the action space.
            ValueError: if nothing can go on.
        """
        action = action_of(value, self.dreamer.action_space)
        self._shown()
        self.notice = ""
        if self.real is not None and self.mode != "dream" and not self.real.is_last:
            self.set_mode("dream")
            self.notice = ALONE
        moved = self.mode != "dream" and self._act_real(action)
        if self.mode != "real":
            for number in range(len(self.futures)):
                if self._is_driven(number):
                    moved = self._act_dream(number, action) or moved
        if not moved:
            raise ValueError(self._why_not())

    def look_at(self, at: Any) -> None:
        """Look at an earlier or later moment of what is shown and driven.

        Raises:
            ValueError: unless it is a whole number.
        """
        if not isinstance(at, int) or isinstance(at, bool):
            raise ValueError("A moment is a whole number, counted from 0.")
        self.notice = ""
        if self.mode != "dream" and self.real is not None:
            self.real = self.real.looked_at(at)
        if self.mode != "real":
            moved = enumerate(self.futures)
            self.futures = tuple(line.looked_at(at) if self._is_driven(i) else line for i, line in moved)

    def fork(self) -> None:
        """Hold one future more, from where the selected one is looked at, with other noise; it is selected then.

        Raises:
            ValueError: if as many as can be are held already, or nothing is shown yet.
        """
        if self.mode == "real":
            self.set_mode("dream")
        line = self._shown()
        if len(self.futures) >= FUTURES:
            raise ValueError(f"{FUTURES} futures are held already; close one first.")
        self._forks += 1
        seed = int(np.random.SeedSequence([self.settings.seed, self._forks]).generate_state(1)[0])
        state = self.dreamer.reseeded(self._state(line), seed)
        now = replace(line.now, reseeded=seed)
        self.kept.put(now, line.at, state)
        self.futures = (*self.futures, line.branch(self._name(), now, state))
        self.selected, self.notice = len(self.futures) - 1, ""

    def select(self, number: Any) -> None:
        """Choose a future. Raises ValueError if there is none of that number."""
        self.selected = self._number(number)

    def close(self, number: Any) -> None:
        """Let a future go. Raises ValueError for the last one, or if there is none of that number."""
        number = self._number(number)
        if len(self.futures) == 1:
            raise ValueError("One future stays; begin a new episode to replace it.")
        self.futures = self.futures[:number] + self.futures[number + 1 :]
        self.selected = min(self.selected - (number < self.selected), len(self.futures) - 1)

    def drive_together(self, together: Any) -> None:
        """Let actions and the rewind bar move all futures, or the selected one only."""
        self.together = together is True

    def record(self, on: Any) -> None:
        """Store real episodes from now on, when they end or are cut by a new one.

        Raises:
            ValueError: if there is no store, or no real environment.
        """
        if on is True and (self.recorder is None or self.loaded.real is None):
            raise ValueError("There is no store to add to; start `lssvwm play` with --out FOLDER.")
        self.recording = on is True

    def change(self, **settings: Any) -> None:
        """Change settings; passes and horizon hold from the next step on, the seed from the next episode.

        Raises:
            ValueError: if one is out of range.
        """
        self.settings = replace(self.settings, **settings)

    def end(self) -> None:
        """Store what is being recorded, and close the environment."""
        try:
            self._store_if_recording()
        finally:
            if self.loaded.real is not None:
                self.loaded.real.close()

    def _act_real(self, action: np.ndarray) -> bool:
        line, env = self.real, self.loaded.real
        assert line is not None and env is not None
        if line.now.ended or line.at >= MOST_STEPS:
            return False
        state = self._state(line)
        moment = env.step(action)
        after = self.dreamer.commit(state, line.now, moment)
        self.kept.put(moment, line.at + 1, after)
        self.real = line.then(moment)
        if moment.ended:
            self._store_if_recording()
        return True

    def _act_dream(self, number: int, action: np.ndarray) -> bool:
        line = self.futures[number]
        if line.now.ended or self.is_cut(line.now) or line.at >= MOST_STEPS:
            return False
        before, began = self._state(line), time.perf_counter()
        moment, after = self.dreamer.step(before, line.now, action, self.settings.denoise_steps)
        self.kept.follow(line.now, moment, line.at + 1, after, time.perf_counter() - began)
        self.futures = (*self.futures[:number], line.then(moment), *self.futures[number + 1 :])
        return True

    def _begin_real(self) -> None:
        assert self.loaded.real is not None
        moment = self.loaded.real.begin(self.settings.seed)
        state = self.dreamer.begin_with(moment.frame, self.settings.seed, moment.vectors)
        self.kept.put(moment, 0, state)
        self.real, self._stored = Line("Real", state, (moment,)), False

    def _futures_of_real(self) -> None:
        """One future, from where the real line is looked at."""
        assert self.real is not None
        line = self.real
        self.futures = (Line(self._name(), line.beginning, line.past, line.at),)
        self.selected = 0

    def _dream_only(self, moment: Moment, state: DreamState) -> None:
        self.mode, self.notice = "dream", ""
        self.futures, self.selected = (self._line(moment, state),), 0

    def _line(self, moment: Moment, state: DreamState) -> Line:
        self.kept.put(moment, 0, state)
        return Line(self._name(), state, (moment,))

    def _state(self, line: Line) -> DreamState:
        """Where a line is looked at."""
        return self.dreamer.state_at(line, self.kept)

    def _is_driven(self, number: int) -> bool:
        return self.together or number == self.selected

    def _store_if_recording(self) -> None:
        env = self.loaded.real
        if not self.recording or self.recorder is None or env is None or self._stored or not env.is_storable:
            return
        count = self.recorder.add(env)
        self._stored, self.notice = True, f"The real episode was stored; the store has {count} now."

    def _shown(self) -> Line:
        line = self.shown
        if line is None:
            raise ValueError("Nothing has begun yet; give a picture or a state file to begin with.")
        return line

    def _number(self, number: Any) -> int:
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < len(self.futures):
            raise ValueError("There is no future of that number.")
        return number

    def _name(self) -> str:
        self._names += 1
        return f"Dream {self._names}"

    def _why_not(self) -> str:
        now = self._shown().now
        if now.ended:
            return "The episode has ended; rewind, or begin a new one."
        if self.is_cut(now):
            return f"The dream is at its horizon of {self.settings.horizon} steps; raise it, or begin a new episode."
        return f"An episode has at most {MOST_STEPS:,} steps here; begin a new one."
