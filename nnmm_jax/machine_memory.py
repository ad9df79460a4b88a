"""What memory the process holds, and what the machine has left for it."""

import ctypes
import os
import resource
import sys
from pathlib import Path

_PROC = Path("/proc")
_CGROUPS = Path("/sys/fs/cgroup")
_KB = 1024


def peak_memory_mb() -> float:
    """Peak resident memory of this process so far, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)  # bytes on macOS, kB elsewhere


def resident() -> int:
    """Bytes that the process holds now; where the system does not say, the most it ever held."""
    status = _PROC / "self/status"
    found = _entry(status, "VmRSS:") if status.is_file() else None
    return int(peak_memory_mb() * 1e6) if found is None else found * _KB


def release() -> None:
    """Give memory back that was freed, such as a compiler's; C libraries keep it otherwise."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:  # of glibc; others give memory back by themselves
        trim(0)


def available() -> int | None:
    """Bytes that the process may still take: of the machine, and of its control group.

    ``None`` where the system does not say.
    """
    found = [one for one in (_of_machine(), _of_control_group()) if one is not None]
    return min(found, default=None)


def _of_machine() -> int | None:
    meminfo = _PROC / "meminfo"
    if meminfo.is_file():
        found = _entry(meminfo, "MemAvailable:")
        return None if found is None else found * _KB
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return None


def _entry(file: Path, name: str) -> int | None:
    for line in file.read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1])
    return None


def _of_control_group() -> int | None:
    """What a container or a batch system leaves, control groups of version 2 and 1."""
    try:
        groups = (_PROC / "self/cgroup").read_text().splitlines()
    except OSError:
        return None
    left: list[int] = []
    for line in groups:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, limit, usage = _CGROUPS, "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            root = _CGROUPS / "memory"
            limit, usage = "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        group = root / path.lstrip("/")
        # Every group on the way up has a say; inside a container the path may not be there.
        ways = [group, *group.parents] if group.is_dir() else [root]
        for folder in (one for one in ways if one.is_relative_to(root)):
            room = _room(folder / limit, folder / usage, folder / "memory.stat")
            if room is not None:
                left.append(room)
    return min(left, default=None)


def _room(limit: Path, usage: Path, stat: Path) -> int | None:
    """Bytes below a limit; files in the cache give way."""
    try:
        most = limit.read_text().strip()
        if not most.isdigit():
            return None
        cached = (_entry(stat, "inactive_file") or 0) if stat.is_file() else 0
        return max(0, int(most) - int(usage.read_text()) + cached)
    except OSError:
        return None
