"""How far a sweep has come: a bar on a terminal, and now and then a line elsewhere."""

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

import rich.progress as bars
from rich.console import Console
from rich.table import Column
from rich.text import Text

from mfjax.metrics import label
from mfjax.training.lanes import OnProgress, Progress
from mfjax.training.sweep import Sweep

EVERY = 10.0  # seconds between two lines of a sweep
MINUTE = 60.0  # between two of what tells nothing itself
say = partial(print, flush=True)  # a pipe would keep the lines for itself
NOTHING = Progress(done=0, total=0, loss=math.nan, score=math.nan)


@contextmanager
def progress(
    sweep: Sweep,
    what: str = "",
    *,
    tell: Callable[[str], object] | None = None,
    console: Console | None = None,
) -> Iterator[OnProgress]:
    """An `on_progress` that shows whether a sweep compiles, trains or refits, and the time left.

    On a terminal it is a bar, which goes at the end. Elsewhere, a notebook and a pipe too, it is a
    line every ten seconds, and one at the end.

    Args:
      sweep: what trains.
      what: to call it.
      tell: takes the lines, which are then told on a terminal too; not given, they are printed.
      console: of the bar; not given, that of the standard output.

    Yields:
      What `tune` and `Sweep.train` take.

    Examples:
      with mfjax.progress(sweep) as on_progress:
          outcome = mfjax.tune(sweep, lanes, refit=True, on_progress=on_progress)
    """
    console = console or Console()
    tell = tell or (_unheard if console.is_terminal else say)
    course = Course(sweep, what)
    with _bar(course, console) as move, ticking(course.line, tell, EVERY):

        def on_progress(now: Progress) -> None:
            course.record(now)
            move(now)

        yield on_progress
    tell(course.end())


def _unheard(line: str) -> None:
    """The `tell` of a terminal, which has a bar."""


@contextmanager
def _bar(course: "Course", console: Console) -> Iterator[Callable[[Progress], None]]:
    """What moves the bar; there is none but on a terminal."""
    columns = (
        _Said(course.doing),
        bars.BarColumn(bar_width=None),
        bars.TextColumn("{task.percentage:3.0f} %"),
        _Said(lambda: ", ".join(course.figures())),
    )
    options = {"transient": True, "expand": True, "disable": not console.is_terminal}
    with bars.Progress(*columns, console=console, **options) as bar:
        task = bar.add_task("", total=None)
        yield lambda now: bar.update(task, completed=now.done, total=now.total or None)


@contextmanager
def ticking(
    line: Callable[[], str],
    tell: Callable[[str], object],
    every: float,
) -> Iterator[None]:
    """Tell a line every so many seconds, from a thread: a compilation and a call tell nothing."""
    ended = threading.Event()

    def write() -> None:
        while not ended.wait(every):
            tell(line())

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    try:
        yield
    finally:
        ended.set()
        writer.join()


def waiting(what: str, tell: Callable[[str], object] = say) -> AbstractContextManager[None]:
    """A line a minute of what is waited for, and for how long."""
    began = time.perf_counter()
    return ticking(lambda: f"{what}: {time.perf_counter() - began:.0f} s so far", tell, MINUTE)


class _Said(bars.ProgressColumn):
    """A column that says what a function says."""

    def __init__(self, said: Callable[[], str]):
        super().__init__(Column(no_wrap=True))
        self.said = said

    def render(self, task: bars.Task) -> Text:
        return Text(self.said())


@dataclass
class Course:
    """What is known of a sweep under way, in words."""

    sweep: Sweep
    what: str
    now: Progress = NOTHING
    began: float = field(default_factory=time.perf_counter)
    at: float = 0.0  # when `now` was
    first: Progress | None = None  # of the search, or of the refit
    first_at: float = 0.0
    score: float = math.nan  # the last there was

    def record(self, now: Progress) -> None:
        self.at = time.perf_counter()
        if self.first is None or now.refit != self.now.refit:
            self.first = now
            self.first_at = self.at
        self.now = now
        if math.isfinite(now.score):
            self.score = now.score

    def doing(self) -> str:
        return ": ".join(filter(None, [self.what, self._phase()]))

    def line(self) -> str:
        now = self.now
        epochs = f"{now.done:,} of {now.total:,} epochs" if now.total else self._took()
        return ", ".join([self.doing(), epochs, *self.figures()])

    def end(self) -> str:
        done = "trained and refitted" if self.now.refit else "trained"
        score = [self._scored()] if math.isfinite(self.score) else []
        said = ", ".join([f"{done} in {self._took()}", *score])
        return ": ".join(filter(None, [self.what, said]))

    def figures(self) -> list[str]:
        """The best score so far, or else the loss, and the time left."""
        figures = []
        if math.isfinite(self.now.score):
            figures.append(self._scored())
        elif math.isfinite(self.now.loss):
            figures.append(f"loss {self.now.loss:.5g}")
        if left := self._left():
            figures.append(f"{left} left")
        return figures

    def _phase(self) -> str:
        programs = list(self.sweep.programs.values())
        if not programs:
            return "preparing"
        if not programs[-1].compile_seconds:
            return "compiling"
        return "refitting" if self.now.refit else "training"

    def _scored(self) -> str:
        return f"best {label(self.sweep.plan.schedule.choose_by)} {self.score:.4f}"

    def _took(self) -> str:
        return f"{time.perf_counter() - self.began:.1f} s"

    def _left(self) -> timedelta | None:
        """The time left, as the epochs since the first that were told; None of one alone."""
        if self.first is None or self.now.done <= self.first.done:
            return None
        an_epoch = (self.at - self.first_at) / (self.now.done - self.first.done)
        ends = self.at + an_epoch * (self.now.total - self.now.done)
        left = max(ends - time.perf_counter(), 0)
        return timedelta(seconds=round(left))
