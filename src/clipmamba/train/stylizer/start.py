"""The stylizer that training starts from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from clipmamba.errors import InputError
from clipmamba.models import Stylizer
from clipmamba.train.stylizer.prepared import Prepared


def start_stylizer(
    prepared: Prepared,
    init: Path | None,
    *,
    painters: tuple[str, ...] | None = None,
    anchors: bool = False,
    **config: Any,
) -> Stylizer:
    """Load or make the stylizer to train, in PyTorch's layout for convolutions, channels last.

    Args:
        prepared: The prepared folder that it will be trained on.
        init: Folder of a stylizer to start from; None makes a new one.
        painters: Names of the painters whose words get anchors; None for all.
        anchors: Add an anchor for the words of each look and painter, if it has none.
        config: Configuration of a new stylizer, apart from what `prepared` sets.

    Raises:
        InputError: There is a configuration for the stylizer in `init`, or its embeddings belong to
            another CLIP than the prepared ones.
    """
    if init is None:
        stylizer = Stylizer(style_dim=prepared.points.shape[2], clip=prepared.clip, **config)
    elif config:
        names = " and ".join(f"--{name}" for name in config)
        raise InputError(f"{names} belong to a new stylizer; drop them, or drop --init")
    else:
        # less noise is for making pictures; training decides by itself how much each style needs
        stylizer = Stylizer.from_pretrained(init, noise_scale=1.0)
    if stylizer.config.clip != prepared.clip:
        raise InputError(
            f"the stylizer in {init} reads style embeddings of CLIP {stylizer.config.clip!r}, but "
            f"{prepared.clip!r} made the prepared ones; prepare with --clip {stylizer.config.clip}"
        )
    if anchors and not stylizer.config.anchors:
        stylizer = stylizer.with_anchors(prepared.anchors(painters))
    return stylizer.to(memory_format=torch.channels_last)
