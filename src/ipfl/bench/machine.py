"""What figures depend on: the machine, the versions, and how much memory this process has held."""

import contextlib
import os
import platform
import resource
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("ipfl", "numpy", "numba", "scipy", "torch")
STATUS = Path("/proc/self/status")
PEAK_RESET = Path("/proc/self/clear_refs")


def machine_facts() -> dict[str, Any]:
    """Processor, cores, load, system, and the versions of what does the arithmetic."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_bytes": _memory_bytes(),
        "load_average": os.getloadavg()[0],
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
    }


def peak_bytes() -> int:
    """The most memory this process has held. Linux's own figure is that of the parent until one exceeds it."""
    found = _status("VmHWM")
    if found is not None:
        return found
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def forget_peak() -> None:
    """From now on `peak_bytes` is about what is held from now on; only Linux can do this."""
    if PEAK_RESET.exists():
        with contextlib.suppress(OSError):
            PEAK_RESET.write_text("5", encoding="ascii")


def resident_bytes() -> int:
    """The memory this process holds now; where the system does not say, the most it has held."""
    found = _status("VmRSS")
    return peak_bytes() if found is None else found


def _status(name: str) -> int | None:
    """A figure of Linux's account of this process, in bytes."""
    if STATUS.exists():
        for line in STATUS.read_text(encoding="ascii").splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    return None


def _memory_bytes() -> int | None:
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
