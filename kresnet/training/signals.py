"""Signals that ask training to end, heard between batches."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

NAMES = tuple(name for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name))


class Interrupted(KeyboardInterrupt):
    """A signal has ended training, whose state is saved.

    Attributes:
        signal: its number.
    """

    def __init__(self, number: int, folder: str) -> None:
        super().__init__(f"{signal.Signals(number).name}: training has ended early; its state is saved in {folder}")
        self.signal = number


class Listener:
    """Keeps the first of these signals for later; a second one acts at once, as without a listener.

    Only Python's main thread can listen. What is ignored, as SIGHUP is under `nohup`, stays so.

    Args:
        wanted: tells from the frame that a signal comes in whether to keep it; others act at once.

    Attributes:
        heard: the number of the signal that is kept; 0: none.
    """

    def __init__(self, wanted: Callable[[FrameType | None], bool]) -> None:
        self.heard = 0
        self._wanted = wanted
        self._before: dict[int, Any] = {}

    def start(self) -> None:
        if threading.current_thread() is not threading.main_thread() or self._before:
            return
        for number in (getattr(signal, name) for name in NAMES):
            before = signal.getsignal(number)
            if before != signal.SIG_IGN:
                self._before[number] = before
                signal.signal(number, self._hear)

    def stop(self) -> None:
        for number, before in self._before.items():
            if signal.getsignal(number) == self._hear:
                signal.signal(number, before)
        self._before = {}

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.heard or not self._wanted(frame):
            self.stop()
            signal.raise_signal(number)
        else:
            self.heard = number
