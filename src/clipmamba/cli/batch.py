"""What a run of `clipmamba stylize` is to make, and how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from PIL import Image

from clipmamba import __version__
from clipmamba.cli.files import Exist, Job
from clipmamba.pipelines.companions import Companions
from clipmamba.pipelines.options import StylizeOptions
from clipmamba.pipelines.saved import model_label
from clipmamba.styles.request import StyleRequest

if TYPE_CHECKING:
    from clipmamba.integrations.diffusion import StylePainter


@dataclass(frozen=True)
class Batch:
    """Everything a run needs to know.

    Attributes:
        jobs: the pictures to make; jobs of the same photo are adjacent.
        request: the requested style, with its pictures and masks read.
        keywords: further keywords for the pipeline.
        companions: captioners and diffusion models that help with the style.
        masks: masks, which must fit every photo, by their names in error messages.
        look: the style options to record in each result; file names without folders.
        words: the prompts as typed.
        device: where to compute.
        model: folder or Hub name of a saved pipeline, or None for the default one.
        exist: what to do if a result exists already.
        max_pixels: limit on a photo's pixels.
        metadata: which metadata of the photo to keep: "all", "color" or "none".
        quality: encoder quality, 1 to 100, for lossy formats; None for the default.
        keep_settings: whether to record the settings in each result.
        stream_format: format of a picture on standard output.
        as_json: whether to report in JSON lines.
    """

    jobs: Sequence[Job]
    request: StyleRequest
    keywords: Mapping[str, Any]
    companions: Companions
    masks: Mapping[str, Image.Image]
    look: Mapping[str, Any]
    words: Sequence[str]
    device: str
    model: str | None
    exist: Exist
    max_pixels: int
    metadata: str
    quality: int | None
    keep_settings: bool
    stream_format: str
    as_json: bool

    @property
    def prompt(self) -> str | None:
        """The prompts as typed, joined for reports; None without any."""
        return " + ".join(self.words) or None

    @property
    def model_name(self) -> str:
        """The model as the results name it."""
        return "default" if self.model is None else model_label(self.model)

    def result_size(self, picture: Image.Image) -> tuple[int, int]:
        """Compute the width and height of a picture's result, in pixels."""
        return StylizeOptions(max_size=self.keywords.get("max_size")).result_size(*picture.size)

    def drawn(self, job: Job) -> list[str] | None:
        """List the paths of the style pictures drawn for a job; None if none were."""
        if self.companions.style_from is None:
            return None
        painter = cast("StylePainter", self.companions.style_from)
        texts = (text for layer in self.request.layers for text, _ in layer.prompts)
        return [str(painter.file(text.strip(), job.seed)) for text in texts]

    def settings(self, job: Job, source: str | None) -> dict[str, Any] | None:
        """Collect the settings to record in a result; None if they are not recorded."""
        if not self.keep_settings:
            return None
        return {
            **({} if self.prompt is None else {"prompt": self.prompt}),
            **self.look,
            **({} if source is None else {"source": source}),
            "seed": job.seed,
            "model": self.model_name,
            "version": __version__,
        }
