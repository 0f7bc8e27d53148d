"""What only the end of a run needs is imported while the devices train."""

import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import Thread

from mfjax.training.lanes import OnProgress, Progress


@contextmanager
def importing(modules: Sequence[str], on_progress: OnProgress) -> Iterator[OnProgress]:
    """The same `on_progress`, at whose first call `modules` begin to be imported.

    Not before: what traces a program would wait for it. One that cannot be imported is left to who
    needs it.
    """

    def load() -> None:
        for module in modules:
            with suppress(Exception):
                importlib.import_module(module)

    thread = Thread(target=load)

    def watched(now: Progress) -> None:
        if thread.ident is None:
            thread.start()
        on_progress(now)

    try:
        yield watched
    finally:
        if thread.ident is not None:
            thread.join()
