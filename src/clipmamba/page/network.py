"""The single compute thread: pictures are made one at a time, however many visitors there are."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from clipmamba.pipelines.pipeline import StylizePipeline

_Result = TypeVar("_Result")


class Network:
    """A pipeline and its thread; loading starts immediately.

    Args:
        load: loads the pipeline.
    """

    def __init__(self, load: Callable[[], StylizePipeline]) -> None:
        self._thread = ThreadPoolExecutor(1, "network")
        self._pipeline = self._thread.submit(load)

    def run(self, work: Callable[[StylizePipeline], _Result]) -> _Result:
        """Run work on the thread and wait for its result; its exceptions are raised here.

        Raises:
            WeightsError: the model could not be loaded.
        """
        context = contextvars.copy_context()  # lets gradio's progress find its visitor
        pipeline = self._pipeline.result()
        return self._thread.submit(context.run, work, pipeline).result()

    def wait(self) -> None:
        """Wait until the model is loaded.

        Raises:
            WeightsError: the model can't be loaded.
        """
        self._pipeline.result()

    def close(self) -> None:
        """Drop waiting work, and wait for the work in progress."""
        self._thread.shutdown(wait=True, cancel_futures=True)
