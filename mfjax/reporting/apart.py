"""Figures saved by a process of their own, which loads matplotlib while this one trains.

It ends with its standard input, and so with the process that began it, however that ends. What it
does not save, for whatever reason, is saved here: errors are those of `save`, and no others.
"""

import gc
import io
import os
import pickle
import signal
import sys
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen
from typing import Any

from mfjax.reporting.saving import Saving

SAVED = b"s"
FAILED = b"f"

Order = tuple[Any, Path, str, Saving]  # the arguments of `save`


class Apart:
    """Saves figures, in a process of its own and in this one at once.

    Args:
      formats: of the files.
    """

    def __init__(self, formats: Sequence[str]) -> None:
        self._process = Popen(
            [sys.executable, "-P", "-m", __name__, *formats],
            stdin=PIPE,
            stdout=PIPE,
            stderr=DEVNULL,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        self._sender = ThreadPoolExecutor(1)
        self._orders: list[tuple[Order, Future[bool]]] = []

    def save(self, *order: Any) -> None:
        """As `mfjax.plots.save`, but that the files are there when `finish` returns."""
        self._orders.append((order, self._sender.submit(self._is_saved, order)))

    def finish(self) -> None:
        """Save here what is not begun there, the last first. Raises what `save` raises."""
        from mfjax.reporting.figures import save

        while self._orders:
            order, sent = self._orders.pop()
            if sent.cancel() or not sent.result():
                save(*order)

    def _is_saved(self, order: Order) -> bool:
        """Whether the process has saved a figure."""
        assert self._process.stdin and self._process.stdout
        try:
            self._process.stdin.write(pickle.dumps(order))
            self._process.stdin.flush()
            return self._process.stdout.read(1) == SAVED
        except Exception:  # of `pickle`, of a pipe, …
            return False

    def __enter__(self) -> "Apart":
        return self

    def __exit__(self, *raised: object) -> None:
        self._sender.shutdown(cancel_futures=True)
        self._process.kill()  # which has nothing at hand
        self._process.communicate()


def main() -> None:
    """Save the figures that the standard input brings."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # is for who began it
    gc.disable()
    from matplotlib.figure import Figure

    from mfjax.reporting.figures import save

    for kind in sys.argv[1:]:
        Figure().savefig(io.BytesIO(), format=kind)  # loads what saving needs
    while True:
        try:
            order = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            save(*order)
            answer = SAVED
        except Exception:
            answer = FAILED
        sys.stdout.buffer.write(answer)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
