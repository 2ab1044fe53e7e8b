"""A label is written in its own letters, or visibly in others."""

from __future__ import annotations

import pytest
from PIL import Image, ImageFont

from clipmamba.evaluate import lettering as module
from clipmamba.evaluate.lettering import lettering
from clipmamba.evaluate.sheet import contact_sheet


def drawn(label: str) -> bytes:
    blank = Image.new("RGB", (200, 20), "white")
    return contact_sheet([[blank]], [label]).tobytes()


@pytest.mark.parametrize(
    ("one", "other"), [("Ölgemälde", "Élgemélde"), ("浮世絵", "絵浮世"), ("Живопись", "Жывопись")]
)
@pytest.mark.parametrize("fonts", [True, False])
def test_other_letters_look_other(one: str, other: str, fonts: bool, monkeypatch) -> None:
    if not fonts:
        monkeypatch.setattr(module, "_INSTALLED", ())
        if one == "Ölgemälde":
            assert lettering(one, 20)[0] == "Olgemalde"
            return
    assert drawn(one) != drawn(other)  # not one box as another


def test_english_is_written_in_pillows_own_font() -> None:
    text, font = lettering("baroque painting, 2nd", 20)
    assert text == "baroque painting, 2nd"
    assert font.getname() == ImageFont.load_default(20).getname()


def test_what_no_font_has_is_spelled_and_said(monkeypatch, caplog) -> None:
    monkeypatch.setattr(module, "_INSTALLED", ("no such font.ttf",))
    assert lettering("ukiyo-e 浮 é", 20)[0] == "ukiyo-e [6D6E] e"
    assert "Noto Sans" in caplog.text
