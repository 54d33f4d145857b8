"""Equal conditions for all: the CPUs the process may use, the threads of its libraries; and the machine in words.

JAX ignores its thread flags, so the process itself is pinned, to as many CPUs as there are to be threads, before JAX
is imported.
"""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

__all__ = ["describe", "pin"]

PACKAGES = ("numpy", "torch", "jax", "numba", "threadpoolctl")


def pin(threads: int) -> list[str]:
    """Let this process use the last so many of its CPUs, and all libraries so many threads; what could not be done."""
    missing = []
    if hasattr(os, "sched_setaffinity"):
        allowed = sorted(os.sched_getaffinity(0))
        if len(allowed) < threads:
            raise ValueError(f"{threads} threads asked for, and this process may use {len(allowed)} CPU(s)")
        os.sched_setaffinity(0, allowed[-threads:])
    else:
        missing.append("this system cannot pin a process to a CPU: JAX may use all of them")
    import numpy as np

    np.ones((2, 2)) @ np.ones((2, 2))  # so that the BLAS is there to be limited
    try:
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

        threadpool_limits(threads)
    except ImportError:
        missing.append("threadpoolctl is missing: the BLAS chooses its threads by the CPUs it sees")
    from . import pytorch

    pytorch.set_threads(threads)
    return missing


def describe(threads: int) -> dict[str, str]:
    """The machine, the versions and the threads."""
    out = {"CPU": f"{_cpu()}, {os.cpu_count()} CPUs", "threads": str(threads), "Python": platform.python_version()}
    out |= {name: _version(name) for name in PACKAGES}
    return out | {"BLAS": _blas()}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "-"


def _cpu() -> str:
    """The model's name, and its numbers, since hypervisors hide the name."""
    fields: dict[str, str] = {}
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else ():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    name = fields.get("model name") or platform.processor() or platform.machine()
    return f"{name} (family {fields['cpu family']}, model {fields['model']})" if "cpu family" in fields else name


def _blas() -> str:
    """NumPy's BLAS and the kernels it chose."""
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return "-"
    found: list[dict[str, Any]] = [x for x in threadpool_info() if x["user_api"] == "blas" and "numpy" in x["filepath"]]
    return ", ".join(f"{x['internal_api']} {x['version']} {x.get('architecture', '')}".strip() for x in found) or "-"
