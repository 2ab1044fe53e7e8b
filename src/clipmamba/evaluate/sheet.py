"""Contact sheets: grids of labeled pictures."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw

from clipmamba.evaluate.lettering import Font, lettering

PROMPTS = (
    "ukiyo-e", "impressionist oil painting", "pencil sketch", "watercolor", "cubism",
    "stained glass", "art nouveau poster", "comic book", "charcoal drawing",
    "baroque painting with dramatic light", "mosaic", "pixel art",
)  # fmt: skip
"""The twelve styles on sample sheets."""


def contact_sheet(
    rows: Sequence[Sequence[Image.Image]], labels: Sequence[str], gap: int = 4
) -> Image.Image:
    """Draw pictures in a grid with column labels.

    Args:
        rows: Pictures, row by row; each cell is as large as the largest picture.
        labels: One label per column.
        gap: Pixels between cells.

    Returns:
        An RGB picture on white.

    Raises:
        ValueError: The number of pictures in a row differs from the number of labels.
    """
    if any(len(row) != len(labels) for row in rows):
        raise ValueError("every row needs one picture for each label")
    width = max(picture.width for row in rows for picture in row)
    height = max(picture.height for row in rows for picture in row)
    letters = max(10, width // 14)
    head = 2 * max(12, width // 10)
    size = (len(labels) * (width + gap) + gap, head + len(rows) * (height + gap) + gap)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for column, label in enumerate(labels):
        label, font = lettering(label, letters)
        text = _wrap(label, draw, font, width)
        draw.multiline_text((gap + column * (width + gap), 2), text, fill="black", font=font)
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            sheet.paste(picture, (gap + x * (width + gap), head + y * (height + gap)))
    return sheet


def strip(pictures: Sequence[Image.Image], gap: int = 4) -> Image.Image:
    """Draw pictures of equal height side by side on white."""
    width = sum(picture.width + gap for picture in pictures) - gap
    row = Image.new("RGB", (width, pictures[0].height), "white")
    left = 0
    for picture in pictures:
        row.paste(picture, (left, 0))
        left += picture.width + gap
    return row


def labelled_sheet(
    cells: Sequence[tuple[str, Image.Image]], columns: int, gap: int = 8
) -> Image.Image:
    """Draw pictures row by row, each below its own label.

    Args:
        cells: Labels and pictures; a cell is as large as the largest picture of its row.
        columns: Cells per row, at least 1.
        gap: Pixels between cells.

    Returns:
        An RGB picture on white.
    """
    columns = min(columns, len(cells))
    rows = [
        contact_sheet(
            [[picture for _, picture in cells[start : start + columns]]],
            [label for label, _ in cells[start : start + columns]],
            gap,
        )
        for start in range(0, len(cells), columns)
    ]
    sheet = Image.new("RGB", (max(r.width for r in rows), sum(r.height for r in rows)), "white")
    top = 0
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height
    return sheet


def _wrap(label: str, draw: ImageDraw.ImageDraw, font: Font, width: int) -> str:
    lines = [""]
    for word in label.split():
        longer = f"{lines[-1]} {word}".strip()
        if draw.textlength(longer, font=font) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return "\n".join(lines[:2])
