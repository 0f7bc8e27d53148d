"""The text of `--help`. Importing it loads neither jax nor Hydra."""

import itertools
import textwrap
from collections.abc import Iterator
from operator import itemgetter

from mfjax.app.names import PLUGINS, all_choices

WIDTH = 79
FIRST_KEYS = {  # that a user sets first
    "data.path": "ratings: CSV, ::, Parquet, .npz, .mat, … (.gz, .zip)",
    "data.columns": "of user, item and rating: [0,1,2], or names",
    "epochs": "the most that a lane is trained",
    "patience": "stop after so many epochs without a new best",
    "choose_by": "the metric that chooses, such as validation_mae",
    "hparams.rank": "columns of the factors",
    "hparams.learning_rate": "of the optimiser",
    "hparams.reg": "λ of the factors",
    "sweep.reg": "values to try: sweep.reg=[0.05,0.1]; any of hparams",
    "replicates": "splits on which every setting is trained: 3",
}
HELP = """mfjax: matrix factorisation of rating matrices in JAX

Usage: python -m mfjax.run [+exp=NAME] [GROUP=NAME ...] [KEY=VALUE ...]

Groups (data, split, method, gradient, optimizer: or your own file.py:function)
{groups}

Keys to set first (--cfg job shows all)
{keys}

Launchers and sweepers of -m
{plugins}

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
hydra.sweep.dir=FOLDER to choose). debug=true shows tracebacks. --hydra-help
shows Hydra's own flags, and eval "$(mfjax -sc install=bash)" completes keys
and values (zsh and fish too)."""


def help_text() -> str:
    """The usage, with what there is to choose from and the keys to set first."""
    return HELP.format(
        groups="\n".join(
            _wrapped(group, ", ".join(names)) for group, names in all_choices().items()
        ),
        keys="\n".join(f"  {key:<23}{what}" for key, what in FIRST_KEYS.items()),
        plugins="\n".join(_wrapped(group, "; ".join(_by_extra(group))) for group in PLUGINS),
    )


def _by_extra(group: str) -> Iterator[str]:
    """What plugins can be chosen, those of one extra together."""
    for extra, named in itertools.groupby(PLUGINS[group].items(), key=itemgetter(1)):
        names = ", ".join(name for name, _ in named)
        yield f'{names} (pip install "{extra.install}")' if extra else names


def _wrapped(group: str, choices: str) -> str:
    return textwrap.fill(
        f"{group}: {choices}",
        WIDTH,
        initial_indent="  ",
        subsequent_indent="    ",
        break_on_hyphens=False,
    )
