"""Lets several processes do the same after the same step."""

from __future__ import annotations

import time

from leaf_audio.training import processes

# Seconds between two times of asking. To ask takes some milliseconds, and
# schedulers leave a process half a minute and more between SIGTERM and SIGKILL.
_BETWEEN = 2.0
# Steps may become slower than those before.
_MOST_STEPS = 50


class Agreement:
    """Tells a process what any of all processes wishes.

    A process that trains with others cannot save its state, or end, by itself:
    the others would wait for it in their next step. So all of them ask each
    other, after steps that all of them know beforehand, about two seconds and
    at most fifty steps apart. A process by itself asks itself after each step.
    """

    def __init__(self) -> None:
        self._is_alone = processes.position()[1] == 1
        # The number of steps from one time of asking to the next.
        self._gap = self._left = 1
        self._asked = time.monotonic()

    def after_step(self, *wishes: bool) -> list[bool]:
        """Returns which wishes any process has; none where none is asked.

        All processes must call this, after each of their steps.

        Args:
            *wishes: What this process wishes. All of them name the same things
                in the same order.
        """
        self._left -= 1
        if self._left and not self._is_alone:
            return [False] * len(wishes)
        seconds = time.monotonic() - self._asked
        *found, slowest = processes.largest([*wishes, seconds])
        # All processes compute the same number. The first steps are slow.
        steps = int(self._gap * _BETWEEN / max(slowest, 1e-9))
        self._gap = max(1, min(steps, 2 * self._gap, _MOST_STEPS))
        return self._begin(found)

    def now(self, *wishes: bool) -> list[bool]:
        """Returns which wishes any process has.

        All processes must call this at the same place.

        Args:
            *wishes: What this process wishes. All of them name the same things
                in the same order.
        """
        return self._begin(processes.largest(wishes))

    def _begin(self, found: list[float]) -> list[bool]:
        self._left = self._gap
        self._asked = time.monotonic()
        return [bool(one) for one in found]
