"""The pages of docs/, and the modules that make some of them and of the experiments' pages."""

import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"
sys.path.insert(0, str(DOCS))
sys.path.append(str(DOCS.parent / "experiments"))
