"""The command: the only folder that knows Hydra and OmegaConf."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent
PLACES = (PACKAGE / "conf", PACKAGE.parent / "conf")  # of a wheel, and of a checkout
CONF = next(folder for folder in PLACES if (folder / "config.yaml").is_file())
