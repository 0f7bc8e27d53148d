"""Every experiment's command, one after another: `python experiments/all.py`.

The figures and tables of each folder are made anew, and `durations.csv` says what it took, with no
program kept from a run before. A script writes into its own folder; of a job, all of which is left
in `outputs/all`, the files that its README links to are copied there. Needs a POSIX system, for the
memory.
"""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import studies
from studies import EXPERIMENTS, REPO, Duration

from mfjax.reporting.course import say
from mfjax.reporting.provenance import cpu_model, usable_cores

ONLY_NAMED = ("ials", "peers")  # which make an environment a peer
RUN = "python -m mfjax.run "  # how the command of a job begins
OUTPUTS = REPO / "outputs" / "all"  # of the jobs


def main() -> None:
    """Run the experiments that are named, or all; exit with 1 where one failed."""
    arguments = parse()
    chosen = in_order(arguments.names)
    if arguments.list:
        show(chosen)
        return
    failed = [row.name for row in chosen if not measured(row)]
    if failed:
        say(f"failed: {', '.join(failed)}")
    sys.exit(bool(failed))


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description="Run experiments, shortest first, and make their figures and tables anew."
    )
    add = parser.add_argument
    default = f"; all without one, but {', '.join(ONLY_NAMED)}"
    names = studies.names()
    add("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)}{default}")
    add("--list", action="store_true", help="show what would run, and what it takes")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in names]
    if unknown:
        parser.error(f"no experiment {', '.join(unknown)}; there are {', '.join(names)}")
    return arguments


def in_order(names: Sequence[str]) -> list[Duration]:
    """The commands to run: the shortest experiment first, and last those never measured."""
    rows = studies.durations()

    def seconds(row: Duration) -> float:
        own = [other.seconds for other in rows if other.name == row.name]
        return sum(map(float, own)) if all(own) else float("inf")

    asked = names or [name for name in studies.names() if name not in ONLY_NAMED]
    return sorted((row for row in rows if row.name in asked), key=seconds)


def show(rows: Sequence[Duration]) -> None:
    """A line a command: the experiment, how long it takes, its memory, and the command."""
    width = max(len(row.name) for row in rows)
    for row in rows:
        print(f"{row.name:{width}}  {row.time:>7}  {row.memory:>7}  {row.command}")


def measured(row: Duration) -> bool:
    """Run a command, keep what it made and record what it took; False where it failed."""
    say(f"{row.name}: {row.command} (last time {row.time})")
    began = time.perf_counter()
    code, peak_bytes = ran(row)
    seconds = time.perf_counter() - began
    if code:
        say(f"{row.name}: failed with exit code {code} after {seconds:.0f} s")
        return False
    now = row._replace(
        seconds=f"{seconds:.1f}",
        peak_mb=f"{peak_bytes / 1e6:.0f}",
        hardware=f"{cpu_model()}, {usable_cores()} cores",
        jax=version("jax"),
        date=datetime.now(UTC).date().isoformat(),
    )
    studies.record(now)
    kept = keep(row) if is_job(row) else []
    import tables  # and so jax, without which a list comes at once

    tables.bring_up_to_date(row.name)
    say(f"{row.name}: {', '.join([now.time, now.memory, *kept])}")
    return True


def ran(row: Duration) -> tuple[int, int]:
    """The exit code of a command, and the bytes of the largest of its processes.

    A process counts what the one that started it held; each of ours holds more than this one.
    """
    words = shlex.split(row.command)
    if is_job(row):
        output = OUTPUTS / place_of(row)
        shutil.rmtree(output, ignore_errors=True)  # of the time before
        words.append(f"hydra.run.dir={output.relative_to(REPO)}")
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "XDG_CACHE_HOME": cache}
        process = subprocess.Popen([sys.executable, *words[1:]], cwd=REPO, env=environment)
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    unit = 1 if sys.platform == "darwin" else 1024
    return process.returncode, unit * used.ru_maxrss


def is_job(row: Duration) -> bool:
    return row.command.startswith(RUN)


def place_of(row: Duration) -> Path:
    """The folder of a job: that of its experiment, or one in it named by what else it overrides."""
    words = shlex.split(row.command.removeprefix(RUN))
    more = [word for word in words if word != f"+exp={row.name}"]
    return Path(row.name, "-".join(more).replace("=", "_"))


def keep(row: Duration) -> list[str]:
    """Copy what a job wrote and its README shows; the names of what was copied.

    Results are kept without the place of this checkout.
    """
    kept = []
    for path in studies.shown(row.name):
        made = OUTPUTS / place_of(row) / path.name
        if path.parent != EXPERIMENTS / place_of(row) or not made.is_file():
            continue
        path.parent.mkdir(exist_ok=True)
        shutil.copyfile(made, path)
        if path.suffix == ".json":
            path.write_text(path.read_text().replace(f"{REPO}/", ""))
        kept.append(path.relative_to(EXPERIMENTS).as_posix())
    return kept


if __name__ == "__main__":
    main()
