"""How long the parts of a run took."""

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass
class Clock:
    """Seconds of each piece; the first of each size includes its compilation.

    Attributes
    ----------
    before : mapping of str to float
        What :meth:`report` said when the run was interrupted.
    """

    before: Mapping[str, float] = field(default_factory=dict)
    pieces: list[tuple[str, int, float]] = field(default_factory=list)
    began: float = field(default_factory=time.perf_counter)

    def start(self) -> None:
        """Start anew; what was before is left out."""
        self.began = time.perf_counter()

    def lap(self, phase: str, n_sweeps: int) -> None:
        """Note the seconds since the last lap."""
        self.pieces.append((phase, n_sweeps, time.perf_counter() - self.began))
        self.start()

    def report(self) -> dict[str, float]:
        """Split off compilation: what the first piece of a size took beyond the later ones."""
        total = {"warmup": 0.0, "sampling": 0.0}
        by_size: dict[int, list[tuple[str, float]]] = {}
        for phase, size, seconds in self.pieces:
            total[phase] += seconds
            by_size.setdefault(size, []).append((phase, seconds))
        compilation = 0.0
        for (phase, first), *later in by_size.values():
            usual = statistics.median(seconds for _, seconds in later) if later else 0.0
            extra = max(0.0, first - usual)
            total[phase] -= extra
            compilation += extra
        found = {"compilation": compilation, **total}
        return {name: value + self.before.get(name, 0.0) for name, value in found.items()}
