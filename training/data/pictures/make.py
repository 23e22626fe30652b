"""Cut the pictures of this folder from those that scikit-image carries: `python training/data/pictures/make.py`.

Only needed to make them anew; training reads the JPEG files. README.md states origin and licence.
"""

from pathlib import Path

import skimage.data
from PIL import Image

SIDE = 384  # pixels of the shorter side
QUALITY = 92
NAMES = (
    "astronaut",
    "brick",
    "camera",
    "cell",
    "chelsea",
    "clock",
    "coffee",
    "grass",
    "gravel",
    "hubble_deep_field",
    "retina",
    "rocket",
)


def make(folder: Path) -> None:
    """Write one JPEG per name, never enlarged."""
    for name in NAMES:
        picture = Image.fromarray(getattr(skimage.data, name)())
        factor = min(SIDE / min(picture.size), 1.0)
        size = (round(picture.width * factor), round(picture.height * factor))
        picture.resize(size, Image.Resampling.LANCZOS).save(folder / f"{name}.jpg", quality=QUALITY, optimize=True)


if __name__ == "__main__":
    make(Path(__file__).parent)
