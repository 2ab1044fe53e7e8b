"""The one thread that computes: whatever the number of visitors, pictures are made in turn."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from clipmamba.pipelines.pipeline import StylizePipeline

_Result = TypeVar("_Result")


class Network:
    """A pipeline and its thread; loading begins at once.

    Args:
        load: gives the pipeline.
    """

    def __init__(self, load: Callable[[], StylizePipeline]) -> None:
        self._thread = ThreadPoolExecutor(1, "network")
        self._pipeline = self._thread.submit(load)

    def run(self, work: Callable[[StylizePipeline], _Result]) -> _Result:
        """Wait for a turn and have it done; what it raises is raised here.

        Raises:
            WeightsError: the model could not be loaded.
        """
        context = contextvars.copy_context()  # gradio's, by which progress finds its visitor
        pipeline = self._pipeline.result()
        return self._thread.submit(context.run, work, pipeline).result()

    def wait(self) -> None:
        """Wait until the model is loaded.

        Raises:
            WeightsError: it can't be.
        """
        self._pipeline.result()

    def close(self) -> None:
        """Drop what waits; what is being made is waited for."""
        self._thread.shutdown(wait=True, cancel_futures=True)
