"""Signals that ask a run to end are heard at once and obeyed when its state can be written."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@dataclass
class Heard:
    """The first signal that came, ``None`` as long as there was none."""

    number: int | None = None

    @property
    def name(self) -> str:
        """Its name, such as ``SIGTERM``."""
        return "" if self.number is None else signal.Signals(self.number).name


@contextmanager
def signals_heard(active: bool) -> Iterator[Heard]:
    """Note SIGTERM and SIGINT (Ctrl-C) instead of obeying them; a second one is obeyed.

    Parameters
    ----------
    active : bool
        Whether to; also nothing is done outside of the main thread, where Python has no signals.

    Yields
    ------
    Heard
    """
    heard = Heard()
    if not active or threading.current_thread() is not threading.main_thread():
        yield heard
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, frame: FrameType | None) -> None:
        heard.number = number
        restore()
        print(
            f"\nnnmm: {heard.name}: the run ends after this piece of sweeps, with a checkpoint",
            file=sys.stderr,
        )

    for number in _SIGNALS:
        signal.signal(number, note)
    try:
        yield heard
    finally:
        restore()
