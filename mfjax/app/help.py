"""The text of `--help`. Importing it loads neither jax nor Hydra."""

from collections.abc import Iterator
from pathlib import Path

from mfjax.app import CONF

HELP = """mfjax: matrix factorisation of rating matrices in JAX

Usage: python -m mfjax.run [+exp=NAME] [GROUP=NAME ...] [KEY=VALUE ...]

Groups
{groups}

Examples
  python -m mfjax.run +exp=movielens
      tune biased factorisation, report test RMSE
  python -m mfjax.run +exp=movielens hparams.rank=64
      the same at rank 64
  python -m mfjax.run +exp=movielens sweep=none sweep.reg=[0.05,0.1]
      another sweep
  python -m mfjax.run +exp=movielens sweep=none method=als
      another method
  python -m mfjax.run -m +exp=movielens hparams.rank=8,16,32
      several jobs, trained as few programs
  python -m mfjax.run -m +exp=movielens_search
      a search by Optuna
  python -m mfjax.run +exp=gradients
      compare every gradient variant
  python -m mfjax.run +exp=movielens data.path=ratings.csv
      your own ratings
  python -m mfjax.run +exp=movielens --cfg job
      show every key and its value

Results go to outputs/, and those of -m to multirun/ (hydra.run.dir=FOLDER and
hydra.sweep.dir=FOLDER to choose). debug=true shows tracebacks. --hydra-help shows Hydra's own
flags, and eval "$(mfjax -sc install=bash)" completes keys and values (zsh and fish too)."""


def help_text() -> str:
    """The usage, with the groups that there are and their choices."""
    groups = (f"  {group}: {', '.join(names)}" for group, names in sorted(_groups()))
    return HELP.format(groups="\n".join(groups))


def _groups() -> Iterator[tuple[str, list[str]]]:
    """The groups of conf/, and that of the jobs, which are modules."""
    folders = {path.parent for path in CONF.glob("*/**/*.yaml")}
    for folder in folders:
        group = folder.relative_to(CONF).as_posix()
        yield group, _stems(folder, "*.yaml")
    yield "job", _stems(Path(__file__).with_name("jobs"), "[!_]*.py")


def _stems(folder: Path, pattern: str) -> list[str]:
    return sorted(path.stem for path in folder.glob(pattern))
