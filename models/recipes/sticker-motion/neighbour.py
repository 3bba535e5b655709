"""Puts the sticker recipe's folder on the module path: its data, captions and networks are used here as they are."""

import sys
from pathlib import Path

RECIPES = Path(__file__).resolve().parents[1]
BUNDLE = RECIPES.parent / "sticker"
if str(RECIPES / "sticker") not in sys.path:
    sys.path.append(str(RECIPES / "sticker"))
