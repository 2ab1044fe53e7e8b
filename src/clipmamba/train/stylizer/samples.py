"""Contact sheets of a stylizer in training: a few photos in a few styles and two stroke sizes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from clipmamba.evaluate.sheet import contact_sheet
from clipmamba.io.convert import tensor_to_array
from clipmamba.models import Stylizer
from clipmamba.models.gamut import into_gamut
from clipmamba.train.pictures import middle_square, open_picture
from clipmamba.train.stylizer.pairs import as_images
from clipmamba.train.stylizer.prepared import Prepared

SIDE = 256  # pixels of a photo on the sheet
STYLES = 8
PHOTOS = 3
STROKES = (1.0, 2.5)


def sample_sheet(data: Path, prepared: Prepared) -> Callable[[nn.Module, Path], None]:
    """Return a function, for `train`, that writes a stylizer's weights and `sheet.png`."""
    styles = range(0, len(prepared.styles), max(1, len(prepared.styles) // STYLES))[:STYLES]
    photos = prepared.photos[:: max(1, len(prepared.photos) // PHOTOS)][:PHOTOS]

    @torch.no_grad()
    def sample(task: nn.Module, folder: Path) -> None:
        stylizer = task.stylizer
        assert isinstance(stylizer, Stylizer)
        device = next(stylizer.parameters()).device
        rows = [
            [
                Image.new("RGB", (8, 8), "white"),
                *(middle_square(open_picture(data / prepared.styles[n]), SIDE) for n in styles),
            ]
        ]
        for name in photos:
            photo = middle_square(open_picture(data / name), SIDE)
            seen = as_images([np.asarray(photo)]).to(device)
            margin = stylizer.margin
            seen = F.pad(seen, (margin,) * 4, mode="replicate")
            for stroke in STROKES:
                row = [photo]
                for number in styles:
                    size = torch.tensor([stroke], device=device)
                    point = prepared.points[number, :1].float().to(device)
                    made = into_gamut(stylizer(seen, point, stroke=size))
                    inside = made[:, :, margin:-margin, margin:-margin].clamp(0, 1)
                    row.append(Image.fromarray(tensor_to_array(inside, np.dtype(np.uint8))))
                rows.append(row)
        labels = ["", *(str(number) for number in styles)]
        contact_sheet(rows, labels).save(folder / "sheet.png")
        stylizer.save_pretrained(folder / "stylizer")

    return sample
