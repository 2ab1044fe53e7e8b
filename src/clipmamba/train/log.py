"""The log of a run, one JSON object per line, and its clock."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clipmamba.files import write_whole


class JsonLog:
    """A JSONL file that is flushed after every line, so that a killed run loses none.

    Lines after step `start` are dropped when the file is opened: a run that was killed after its
    last checkpoint repeats those steps.
    """

    def __init__(self, path: Path, start: int, *, enabled: bool):
        self.path, self.start, self.enabled = path, start, enabled

    def __enter__(self) -> JsonLog:
        if self.enabled:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.is_file():
                kept = "".join(self._kept())
                with write_whole(self.path) as part:
                    part.write_text(kept, encoding="utf-8")
            self.file = self.path.open("a", encoding="utf-8")
        return self

    def __exit__(self, *error: object) -> None:
        if self.enabled:
            self.file.close()

    def _kept(self) -> Iterator[str]:
        with self.path.open(encoding="utf-8") as file:
            for line in file:
                whole = line.endswith("\n")  # a killed run may leave half a line
                if whole and json.loads(line)["step"] <= self.start:
                    yield line

    def write(self, **values: Any) -> None:
        """Append a line."""
        if self.enabled:
            self.file.write(json.dumps(values) + "\n")
            self.file.flush()


def hours_logged(path: Path, start: int) -> float:
    """Return the hours that a run had taken at a step, according to its log."""
    if not path.is_file():
        return 0.0
    with path.open(encoding="utf-8") as file:
        lines = [json.loads(line) for line in file if line.endswith("\n")]
    return max((line.get("hours", 0.0) for line in lines if line["step"] <= start), default=0.0)


def read_log(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of a JSONL log."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


class Clock:
    """The time that a run takes, over all its calls.

    Args:
        start: Step at which this call begins.
        hours: Hours that earlier calls took.
    """

    def __init__(self, start: int, hours: float):
        self.start, self.before, self.began = start, hours, time.monotonic()

    @property
    def minutes(self) -> float:
        """Minutes of this call."""
        return (time.monotonic() - self.began) / 60

    @property
    def hours(self) -> float:
        """Hours of the run."""
        return self.before + self.minutes / 60

    def seconds_per_step(self, step: int) -> float:
        """Return the mean over this call."""
        return 60 * self.minutes / max(1, step - self.start)


def format_duration(seconds: float) -> str:
    """Format a duration in hours and minutes, such as "1 h 05 min"."""
    minutes = max(0, round(seconds / 60))
    return f"{minutes // 60} h {minutes % 60:02d} min"
