"""A plugin of pytest: `-p native.recording` writes what the handlers are called with.

`sanitize.py` calls it, and sets MFJAX_RECORDER and what record.cpp reads.
"""

import os
from pathlib import Path


def pytest_configure(config: object) -> None:
    """Put the recording library in place of the compiled one, after conftest.py has been read."""
    from mfjax.kernels.native import library

    library.PATH = Path(os.environ["MFJAX_RECORDER"])
