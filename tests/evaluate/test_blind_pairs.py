from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from clipmamba.evaluate.protocol import PHOTOS

SCRIPT = Path(__file__).parents[2] / "scripts/blind_pairs.py"


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT))


@pytest.fixture
def folders(tmp_path: Path, script: dict[str, Any]) -> Path:
    """A ruler's photos, and two sets of plain pictures: red ones and blue ones."""
    (tmp_path / "ruler/photos").mkdir(parents=True)
    for photo in PHOTOS:
        Image.new("RGB", (40, 30)).save(tmp_path / f"ruler/photos/{photo.name}.png")
    for color in ("red", "blue"):
        (tmp_path / color).mkdir()
        for number in range(1, 41):
            Image.new("RGB", (40, 30), color).save(tmp_path / color / script["file_name"](number))
    return tmp_path


def test_votes_for_the_red_side_are_all_won(folders: Path, script: dict[str, Any]):
    """Whoever looks at the sheets and likes red finds red the winner, wherever the coin put it."""
    arguments = ["make", "--first", f"red={folders}/red", "--second", f"blue={folders}/blue"]
    arguments += ["--ruler", f"{folders}/ruler", "--size", "40", "--output", f"{folders}/out"]
    result = CliRunner().invoke(script["main"], [*arguments, "--seed", "3"])
    assert result.exit_code == 0, result.output
    sheets = sorted((folders / "out").glob("*.png"))
    assert len(sheets) == 10
    sides = []
    for sheet in sheets:
        pixels = np.asarray(Image.open(sheet))
        assert pixels.shape == (4 * (30 + 48), 40 + 16 + 40, 3)
        for pair in range(4):
            left, right = pixels[78 * pair + 45, 20], pixels[78 * pair + 45, 76]
            assert {left.tobytes(), right.tobytes()} == {b"\xff\0\0", b"\0\0\xff"}
            sides.append("l" if left[0] else "r")
    assert 10 < sides.count("l") < 30
    votes = folders / "votes.txt"
    votes.write_text("".join(f"{n} {side}\n" for n, side in enumerate(sides, 1)))
    score = CliRunner().invoke(script["main"], ["score", str(votes), "--output", f"{folders}/out"])
    assert score.output == "red against blue: 40 won, 0 tied, 0 lost\n"
    key = json.loads((folders / "out/.key.json").read_text())
    assert key["first_is"] == sides


def test_ties_and_losses_are_counted(script: dict[str, Any]):
    votes = script["read_votes"]("1 l\n2 R  # warmer\n\n3 =\n4 r", 4)
    counted = script["count_votes"](votes, ["l", "l", "r", "r"])
    assert counted == {"won": 2, "lost": 1, "tied": 1}


@pytest.mark.parametrize("text", ["1 l", "1 l\n1 r", "1 l\n2 x", "1 l\n3 r", "1 l\n2"])
def test_unclear_votes_are_refused(script: dict[str, Any], text: str):
    with pytest.raises(script["InputError"], match="votes"):
        script["read_votes"](text, 2)


def test_forty_prompts_meet_eight_photos(script: dict[str, Any]):
    asked = script["asked"]()
    assert len({prompt for prompt, _ in asked}) == len(asked) == 40
    assert {photo for _, photo in asked} == set(range(8))
