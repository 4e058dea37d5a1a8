"""What Linux says of this machine's processor."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path


def processor() -> str:
    """Its name."""
    return _field("model name") or platform.processor() or platform.machine()


def cpu_flags() -> set[str]:
    """The instruction sets that it has, in Linux's words; empty where that is unknown."""
    return set(_field("flags").split())


def cores() -> int:
    """How many this process may use; OMP_NUM_THREADS says fewer, as to PyTorch."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return min(usable, int(wanted)) if wanted.isdecimal() and int(wanted) else usable


def _field(name: str) -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="ignore")
    except OSError:
        return ""
    found = re.search(rf"^{name}\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1].strip() if found else ""
