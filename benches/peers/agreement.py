"""The largest difference of two pictures in steps of a byte: `agreement.py FIRST SECOND`."""

import sys

import numpy as np
from PIL import Image

first, second = (np.asarray(Image.open(path).convert("RGB"), np.int16) for path in sys.argv[1:])
print(np.abs(first - second).max())
