"""The built-in guide: what it knows, how conversations are written from it, and how good it is."""

from pathlib import Path
from typing import Final

GUIDE: Final = Path(__file__).resolve().parents[2] / "models" / "guide"
