from __future__ import annotations

import pytest
from PIL import Image

from clipmamba.evaluate.sheet import contact_sheet


def test_pictures_lie_in_rows_under_their_labels():
    red, blue = Image.new("RGB", (40, 30), "red"), Image.new("RGB", (40, 30), "blue")
    sheet = contact_sheet([[red, blue], [blue, red]], ["one", "two"], gap=4)
    assert sheet.width == 4 + 2 * 44
    head = sheet.height - 4 - 2 * 34
    for row, wanted in enumerate([("red", "blue"), ("blue", "red")]):
        for column, colour in enumerate(wanted):
            centre = (4 + 44 * column + 20, head + 34 * row + 15)
            assert sheet.getpixel(centre) == Image.new("RGB", (1, 1), colour).getpixel((0, 0))
    for column in range(2):  # a label stands over each
        left = 4 + 44 * column
        assert sheet.crop((left, 0, left + 40, head)).convert("L").getextrema()[0] < 128
    assert sheet.getpixel((1, sheet.height - 1)) == (255, 255, 255)


def test_smaller_pictures_keep_their_size():
    sheet = contact_sheet([[Image.new("RGB", (40, 40), "red"), Image.new("RGB", (10, 10))]], "ab")
    left, head = 4 + 44, sheet.height - 4 - 44
    cell = sheet.crop((left, head, left + 40, head + 40))
    assert sorted(cell.getcolors()) == [(100, (0, 0, 0)), (1500, (255, 255, 255))]


def test_long_labels_are_wrapped_into_their_column():
    label = "baroque painting with dramatic light"
    blank = Image.new("RGB", (140, 20), "white")
    sheet = contact_sheet([[blank, blank]], [label, "x"])
    head = sheet.height - 4 - 24
    beside = sheet.crop((4 + 140, 0, 4 + 144, head))  # the gap between two columns
    assert beside.convert("L").getextrema() == (255, 255)


def test_a_row_that_does_not_fit_the_labels_is_refused():
    with pytest.raises(ValueError, match="one picture for each label"):
        contact_sheet([[Image.new("RGB", (4, 4))]], ["one", "two"])
