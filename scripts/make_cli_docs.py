"""Write docs/cli.md from the commands themselves, or check that it is up to date."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from clipmamba.cli import main
from clipmamba.cli.exits import EXIT_CODES
from clipmamba.cli.options import sections

PAGE = Path(__file__).parents[1] / "docs" / "cli.md"

INTRODUCTION = """\
# The command line

<!-- Written by scripts/make_cli_docs.py from the commands' own help: change it there. -->

`python -m clipmamba` is the same command. `clipmamba COMMAND --help` shows what stands here.
"""

PICTURES = """\
## What happens to a picture

- Read: PNG, JPEG, WebP, TIFF, AVIF, GIF, BMP, PPM, JPEG 2000, and HEIC with the extra `heic`. Only
  the first frame of an animation is read; a warning says so. RAW files are refused: develop them
  first.
- TIFF: grey of 1 to 16 bits, RGB, CMYK, palettes and YCbCr; pixels or planes, strips or tiles, with
  transparency. Floating-point and signed numbers, 32 bits and CIE Lab are refused by name. Of
  several pages the first that is no thumbnail is read.
- Written: PNG, JPEG, WebP, TIFF, AVIF, HEIC. A result that the format can't hold (WebP: 16,383
  pixels per side, AVIF and HEIC: 32,768, JPEG: 65,500) is refused before the work.
- The orientation is applied; the rest of EXIF is kept, without the old thumbnail; so are XMP and
  the resolution. Sizes in EXIF and XMP become those of the result. What XMP says of a gain map, a
  motion photo or a depth map is left out, as they are.
- IPTC is kept in JPEG and TIFF, a comment in JPEG and PNG, texts in PNG. Where the format has no
  place for one of these, a warning names it.
- An embedded RGB or CMYK profile is followed, and the result goes back into it (CMYK where the
  format holds it: JPEG and TIFF). Colors outside sRGB become the nearest inside on the way. So are
  a PNG's own words about its colors (cICP, gAMA, cHRM) and a camera's Adobe RGB: the result gets a
  profile that says the same. HDR pictures (PQ, HLG) are refused.
- Transparency is kept. What it hides does not show in the result. JPEG has none: there the picture
  is laid on white, with a warning.
- 16 bits per channel (grey and RGB of PNG and TIFF) stay 16 bits in a PNG or TIFF result; other
  formats hold 8, and 16-bit CMYK is read with 8.
- `--strength 0` keeps the photo's own pixels, mode and profile; so does every pixel that `--mask`
  or `--region` leaves out or `--keep` keeps.
- JPEG and WebP are written with quality 95, AVIF and HEIC with 90, all in full color resolution
  where the format has it (WebP has not).
- Prompt, strength, seed, model and the other options of the style go into EXIF's user comment,
  unless the photo has a comment. Files are named there without their folders. If a JPEG's EXIF has
  no room for it, a warning says so.
- Photos of more than 200 million pixels are refused unless `--max-pixels` allows them; those of
  more than 4 million are worked on in tiles.
- A result is written under a temporary name in the same folder, brought to the disk and renamed
  when whole. If another program makes the file meanwhile, that file stays, unless --overwrite is
  given. A file that is replaced hands on its mode; a link stays a link to the new content.

## Where results go

- Without `-o`: beside each photo, named after the style and the seed, if one is given:
  `photo-ukiyo-e.jpg`, `photo-ukiyo-e-seed2.jpg`.
- One named photo: to the file OUT, or into it if it is a folder or ends with `/`.
- Several, a folder or a pattern: into the folder OUT under their own names. The tree below a folder
  or pattern is kept; several folders keep their own names too.
- `a.jpg` and `a.png` in one format become `a-jpg.webp` and `a-png.webp`. Two results are never
  written to one file.
- OUT may be the folder of the photos: results are then named after the style. An OUT inside that
  folder is not searched.
- In folders and patterns, results of earlier runs, whatever their style, and sheets are passed
  over: they are known by their EXIF (by their names alone if that was left out). A line on stderr
  counts them. Name one to restyle it; a folder that holds nothing else is taken whole.
- Hidden files, files that are no pictures by their names, and pipes are passed over; so are RAW
  files, which a line on stderr counts.
- A folder that is read-only, or a name that is too long, is refused before the work.
- `--variants 4` gives `photo-ukiyo-e-seed0.jpg` to `-seed3.jpg`; `--seed 2` makes the third again.

## Output for scripts

The path of each written picture goes to stdout, one per line; everything else to stderr, with a
progress bar if that is a terminal. With `--json` stdout has one object per picture, skipped and
failed ones too. Streams that are closed, as under cron, do not hinder the work; where stdout is
full, the pictures are made, one line says so, and the exit code is 1.

| key | value |
|---|---|
| `input`, `output` | paths as given; `-` for a stream; `output` is null after a failure |
| `state` | `written`, `skipped`, `failed` or `planned` |
| `size` | width and height of the result |
| `prompt`, `seed` | the style in words; the seed, null without one |
| `source` | what is shown, in words: given, or said by a captioner; null without |
| `parts` | the parts that words have found, each with its share of the photo; null without |
| `drawn` | the style pictures that `--style-from` drew, in the cache; null without |
| `finish` | the model and strength of `--finish`; null without |
| `model`, `device`, `backend` | `default` or the folder's name; where it ran; which scan ran |
| `seconds` | for computing this picture |
| `error` | null, or what went wrong |
"""


def page() -> str:
    """The whole of docs/cli.md."""
    root = click.Context(main, info_name="clipmamba")
    parts = [INTRODUCTION, _table(root)]
    for name, command in main.commands.items():
        with click.Context(command, info_name=name, parent=root) as context:
            parts.append("\n".join(_command(command, context)) + "\n")
    codes = "\n".join(f"| {code} | {meaning} |" for code, meaning in EXIT_CODES.items())
    parts.append(PICTURES)
    parts.append(f"## Exit codes\n\n| code | meaning |\n|---|---|\n{codes}\n")
    return "\n".join(parts)


def _table(root: click.Context) -> str:
    rows = (
        f"| [{name}](#{name}) | {command.get_short_help_str(200)} |"
        for name, command in main.commands.items()
    )
    return "| command | |\n|---|---|\n" + "\n".join(rows) + "\n"


def _command(command: click.Command, context: click.Context) -> Iterator[str]:
    yield f"## {context.info_name}"
    yield ""
    yield f"`{context.command_path} {' '.join(command.collect_usage_pieces(context))}`"
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        yield ""
        if paragraph.startswith("\b\n"):
            yield f"```sh\n{paragraph[2:]}\n```"
        else:
            yield paragraph
    for name, options in sections(command, context).items():
        rows = [row for row in (o.get_help_record(context) for o in options) if row]
        if [option.name for option in options] == ["help"]:
            continue
        yield f"\n| {name} | |\n|---|---|"
        for names, text in rows:
            cells = (" ".join(cell.split()).replace("|", "\\|") for cell in (f"`{names}`", text))
            yield f"| {' | '.join(cells)} |"


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; exit with 1 if the page is stale.")
def make(check: bool) -> None:
    """Write docs/cli.md."""
    text = page()
    if not check:
        PAGE.write_text(text, encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != text:
        print("docs/cli.md is stale: run python scripts/make_cli_docs.py", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    make()
