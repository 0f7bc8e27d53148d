"""`python -m mfjax.run`: compose the config, hand it to its job, and turn a user's mistake into one short message."""

import logging
import os
import re
import shlex
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

BEGAN = time.perf_counter()  # before the imports: they are part of what a user waits for

import hydra  # noqa: E402
from hydra.core.hydra_config import HydraConfig  # noqa: E402
from hydra.errors import HydraException  # noqa: E402
from omegaconf import DictConfig  # noqa: E402
from omegaconf.errors import OmegaConfBaseException  # noqa: E402

from mfjax.app import build as config
from mfjax.app import jobs
from mfjax.errors import CheckFailed, InputError, Interrupted  # noqa: E402

HELP = """mfjax: matrix factorisation of rating matrices in JAX

Usage: python -m mfjax.run [+exp=NAME] [GROUP=NAME ...] [KEY=VALUE ...]

Groups
{groups}

Examples
  python -m mfjax.run +exp=movielens                                  tune biased factorisation, report test RMSE
  python -m mfjax.run +exp=movielens hparams.rank=64                  the same at rank 64
  python -m mfjax.run +exp=movielens sweep=none sweep.reg=[0.05,0.1]  another sweep
  python -m mfjax.run -m +exp=movielens hparams.rank=8,16,32          several jobs, trained as one program
  python -m mfjax.run +exp=gradients                                  compare every gradient variant
  python -m mfjax.run data=file data.path=ratings.csv                 your own ratings
  python -m mfjax.run +exp=movielens --cfg job                        show every key and its value

Results go to outputs/ (hydra.run.dir=FOLDER to choose). debug=true shows tracebacks. --hydra-help shows Hydra's own flags."""

config.register()


def main() -> None:
    """The command: exits 1 on a wrong input, with its reason in at most six lines, 2 where a check failed, and 128 + n on
    signal n."""
    if {"--help", "-h"} & set(sys.argv[1:]):  # Hydra's own takes three times as long: it copies the schema for every group
        print(help_text())
        return
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra hands errors on, and this function shortens them
    try:
        run()
    except CheckFailed:
        sys.exit(2)
    except (Interrupted, KeyboardInterrupt) as stop:
        number = stop.signal if isinstance(stop, Interrupted) else signal.SIGINT
        say(interrupted(stop))
        sys.exit(128 + number)
    except (InputError, HydraException, OmegaConfBaseException, OSError) as error:
        if "debug=true" in (argument.lower() for argument in sys.argv):
            traceback.print_exc()
        say(f"error: {short(error)}")
        sys.exit(1)


def say(message: str) -> None:
    """To the terminal, and to run.log where the run came that far."""
    if any(isinstance(handler, logging.FileHandler) for handler in logging.getLogger().handlers):
        logging.getLogger("mfjax").error(message)
    print(message, file=sys.stderr)


def interrupted(stop: BaseException) -> str:
    """What a reader is told whose run a signal ended."""
    if not (isinstance(stop, Interrupted) and stop.kept):
        return "stopped; what was written before is kept"
    folder = stop.folder
    if jobs.is_multirun():
        folder = Path(HydraConfig.get().sweep.dir).resolve()
    return f"stopped by {signal.Signals(stop.signal).name} and saved; to go on:\n{resumption(sys.argv[1:], folder)}"


def resumption(arguments: Sequence[str], folder: Path) -> str:
    """The command that goes on where this one was stopped, in the same folder."""
    multirun = {"-m", "--multirun"} & set(arguments)
    said_anew = (*multirun, "resume=", "hydra.run.dir=", "hydra.sweep.dir=")
    again = [a for a in arguments if not a.startswith(said_anew)]
    place = f"hydra.{'sweep' if multirun else 'run'}.dir={folder}"
    return shlex.join(["python", "-m", "mfjax.run", *(["-m"] if multirun else []), *again, place, "resume=true"])


@hydra.main(config_path=str(config.CONF), config_name="config", version_base="1.3")
def run(cfg: DictConfig) -> float | None:
    """Run one job in Hydra's output folder."""
    return jobs.run(cfg, time.perf_counter() if jobs.is_multirun() else BEGAN)


def help_text() -> str:
    """The usage, with the groups that conf/ holds."""
    folders = sorted({path.parent for path in config.CONF.glob("*/**/*.yaml")})
    names = {f.relative_to(config.CONF).as_posix(): sorted(path.stem for path in f.glob("*.yaml")) for f in folders}
    groups = (f"  {group}: {', '.join(choices)}" for group, choices in names.items())
    return HELP.format(groups="\n".join(groups))


def short(error: Exception) -> str:
    """The message in at most six lines; of Hydra's, what a user of this command can act on."""
    if isinstance(error, InputError):
        return "\n".join(str(error).splitlines()[:6])
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'a file'}: {error.strerror}; choose a folder that can be written to, or make room"
    text = f"{error}\n{error.__cause__ or ''}"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if group := re.search(r"Could not override '(.*)'\.\s*No match in the defaults list", text):
        return f"write +{group[1]}=… with a plus: {group[1]} is no part of the config until it is added"
    if unknown := re.match(r"Could not override '(.*)'", lines[0]):
        return f"unknown key {unknown[1]}; {config.hint(unknown[1])}"
    lines = [line for line in lines if not line.startswith(("reference_type", "object_type", "full_key"))]
    if "Config search path:" in lines:
        lines = lines[: lines.index("Config search path:")]
    for i, line in enumerate(lines):
        if line.startswith("Available options"):
            lines[i:] = [f"{line} {', '.join(lines[i + 1 :])}"]
        elif "is not a ListConfig" in line:
            lines[i] = "expected a list, such as [0.05,0.1]"
    return "\n".join(lines[:6])


if __name__ == "__main__":
    main()
