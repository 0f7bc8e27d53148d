"""What fits in memory, asked before it is allocated."""

import os

import jax

from mfjax.errors import OutOfMemory

SHARE = 0.8  # of the memory, the most that may be asked for


def memory_bytes() -> int:
    """The accelerator's limit, or this machine's physical memory where it computes on its CPU."""
    return device_bytes() or machine_bytes()


def device_bytes() -> int | None:
    """The limit of the first accelerator; None where it is a CPU, which has the machine's."""
    stats = jax.local_devices()[0].memory_stats() or {}
    return stats.get("bytes_limit")


def machine_bytes() -> int:
    """The physical memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def refuse_beyond_memory(needed: int, what: str, instead: str, *, on_host: bool = False) -> None:
    """Raises OutOfMemory where `needed` bytes are too many, and says what to use `instead`.

    On the device, or `on_host`.
    """
    there = machine_bytes() if on_host else memory_bytes()
    if needed > SHARE * there:
        raise OutOfMemory(
            f"{what} need about {needed / 1e9:,.3g} GB, and this machine has {there / 1e9:.3g} GB\n"
            f"use {instead}"
        )
