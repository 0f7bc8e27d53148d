"""What fits in memory, asked before it is allocated."""

import os

import jax

from mfjax.errors import OutOfMemory


def memory_bytes() -> int:
    """The memory of the device that computes: the accelerator's limit, or this machine's physical memory."""
    stats = jax.local_devices()[0].memory_stats() or {}
    return stats.get("bytes_limit") or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def refuse_beyond_memory(needed: int, what: str, instead: str) -> None:
    """Raises OutOfMemory where `needed` bytes are more than four fifths of the memory, with what to change."""
    if needed > 0.8 * memory_bytes():
        raise OutOfMemory(
            f"{what} need about {needed / 1e9:,.3g} GB, and this machine has {memory_bytes() / 1e9:.3g} GB\nuse {instead}"
        )
