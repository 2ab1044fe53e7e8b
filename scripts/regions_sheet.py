"""Make docs/regions.jpg: photos, the parts found in them, and the results.

python scripts/regions_sheet.py
"""

from pathlib import Path

from PIL import Image

from clipmamba import stylize
from clipmamba.pipelines import Photo
from clipmamba.regions.find import PartFinder

ROOT = Path(__file__).parent.parent
ROWS = (
    ("mountains", "sky", {"regions": {"sky": "van Gogh"}}),
    ("astronaut", "person", {"regions": {"background": "stained glass"}}),
    ("astronaut", "face", {"text": "ukiyo-e", "faces": "keep"}),
)
WIDTH, HEIGHT = 300, 225


def fit(picture: Image.Image) -> Image.Image:
    """The upper middle of a picture, in one size."""
    scale = max(WIDTH / picture.width, HEIGHT / picture.height)
    size = (round(picture.width * scale), round(picture.height * scale))
    left = (size[0] - WIDTH) // 2
    return picture.convert("RGB").resize(size).crop((left, 0, left + WIDTH, HEIGHT))


if __name__ == "__main__":
    sheet = Image.new("RGB", (3 * WIDTH, len(ROWS) * HEIGHT))
    for row, (name, word, options) in enumerate(ROWS):
        photo = Image.open(ROOT / f"assets/photos/{name}.jpg").convert("RGB")
        mask = PartFinder()(Photo.open(photo).tensor, word)
        made = stylize(photo, device="cpu", **options)
        for column, picture in enumerate((photo, mask, made)):
            sheet.paste(fit(picture), (column * WIDTH, row * HEIGHT))
    sheet.save(ROOT / "docs/regions.jpg", quality=80, optimize=True)
