"""Load models of transformers and diffusers from folders or Hub repositories."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from clipmamba.errors import ClipmambaError, InputError, WeightsError
from clipmamba.files import one_line
from clipmamba.hub_access import knock, offline
from clipmamba.weights import loading

if TYPE_CHECKING:
    import torch

_Model = TypeVar("_Model")


def check_packages(what: str, packages: Sequence[str], extra: str) -> None:
    """Check that packages are installed, without importing them.

    Raises:
        InputError: A package is missing; the message names the extra to install.
    """
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise InputError(f"{what} needs {package}: pip install 'clipmamba[{extra}]'")


def check_name(what: str, name: str, index: str) -> None:
    """Refuse an invalid model name, without importing anything heavy.

    Args:
        what: The kind of model for messages, such as "captioner".
        name: A folder or Hub repository.
        index: The file that every such model has.

    Raises:
        WeightsError: The folder lacks that file, or the name is that of a file or no valid
            repository name.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / index).is_file():
            raise WeightsError(f"{folder} has no {what}: {index} is missing")
        return
    if folder.is_file():
        raise WeightsError(f"{folder} is a file; give the model's folder")
    try:
        validate_repo_id(name)
    except HFValidationError:
        raise WeightsError(
            f"no {what} {name!r}: give an existing folder, or a Hub name such as owner/model"
        ) from None


def load_model(
    what: str, name: str, index: str, libraries: Sequence[str], load: Callable[..., _Model]
) -> _Model:
    """Load a model from a folder, from the Hub's local cache, or from the Hub.

    Args:
        what: The kind of model for messages.
        name: A folder or Hub repository.
        index: The file that every such model has.
        libraries: Which of transformers and diffusers load it.
        load: Calls `from_pretrained` with the name and `local_files_only`.

    Raises:
        WeightsError: The model is missing, unreachable or can't be loaded.
    """
    import huggingface_hub as hub

    check_name(what, name, index)
    folder = Path(name).expanduser()
    problem = f"can't load the {what} {name}"
    with loading(), quiet(libraries):
        if folder.is_dir():
            with _one_line_of(problem, WeightsError):
                return load(str(folder), local_files_only=True)
        if isinstance(hub.try_to_load_from_cache(name, index), str):
            with _one_line_of(problem, WeightsError):
                try:
                    return load(name, local_files_only=True)
                except OSError:  # a file is missing from the cache
                    if offline():
                        raise
        remedy = f"with network access, run: hf download {name}; or give a folder"
        missing = f"the {what} {name} is neither a folder here nor in the local cache"
        if offline():
            raise WeightsError(f"{missing}; {remedy}")
        knock(missing, remedy)
        with _one_line_of(problem, WeightsError):
            return load(name, local_files_only=False)


class LazyModel(Generic[_Model]):
    """A model that is loaded at its first use, once for all threads, and stays loaded.

    Args:
        what: The kind of model for messages.
        name: A folder or Hub repository.
        index: The file that every such model has.
        libraries: Which of transformers and diffusers load it.
        load: See `load_model`.

    Raises:
        WeightsError: The name is invalid.
    """

    def __init__(
        self,
        what: str,
        name: str,
        index: str,
        libraries: Sequence[str],
        load: Callable[..., _Model],
    ) -> None:
        check_name(what, name, index)
        self._source = what, name, index, libraries, load
        self._libraries = libraries
        self._failed = f"the {what} {name} failed"
        self._lock = threading.RLock()
        self._loaded: _Model | None = None

    def get(self) -> _Model:
        """Return the model, loaded.

        Raises:
            WeightsError: See `load_model`.
        """
        with self._lock:
            if self._loaded is None:
                self._loaded = load_model(*self._source)
            return self._loaded

    @contextlib.contextmanager
    def running(self) -> Iterator[_Model]:
        """Lend the model to one thread at a time, quietly and without gradients.

        Raises:
            InputError: The model fails.
            WeightsError: See `load_model`.
        """
        import torch

        with self._lock:
            model = self.get()
            failures = _one_line_of(self._failed, InputError)
            with quiet(self._libraries), torch.no_grad(), failures:
                yield model


def check_kind(what: str, name: str, config: Any, auto: Any) -> None:
    """Refuse a model of another kind, which transformers answers with a list of all that it knows.

    Args:
        what: The kind of model for messages.
        name: A folder or Hub repository.
        config: The model's configuration.
        auto: The `AutoModelFor...` class that is to load it.

    Raises:
        WeightsError: The class can't load such a model.
    """
    if type(config) not in auto._model_mapping:
        raise WeightsError(f"{name} is a model of the kind {config.model_type!r}, not a {what}")


def short_name(name: str) -> str:
    """Shorten a model's name for display: of a folder, only its last part."""
    folder = Path(name).expanduser()
    return folder.resolve().name if folder.is_dir() else name


def choose_precision(device: torch.device) -> torch.dtype:
    """Choose float16 on CUDA, float32 elsewhere: half is slow on CPUs and unsafe on the rest."""
    import torch

    return torch.float16 if device.type == "cuda" else torch.float32


@contextlib.contextmanager
def _one_line_of(problem: str, kind: type[ClipmambaError]) -> Iterator[None]:
    """Convert exceptions of transformers, diffusers, safetensors and torch to one of ours."""
    import pickle

    from safetensors import SafetensorError

    try:
        yield
    except ClipmambaError:
        raise
    except (
        OSError,
        MemoryError,
        ValueError,
        RuntimeError,
        TypeError,
        LookupError,
        AttributeError,
        ImportError,
        EOFError,
        pickle.UnpicklingError,
        SafetensorError,
    ) as error:
        raise kind(f"{problem}: {one_line(error)}") from error


@contextlib.contextmanager
def quiet(libraries: Sequence[str]) -> Iterator[None]:
    """Silence log messages and progress bars of libraries; errors are still raised.

    Args:
        libraries: Which of transformers and diffusers to silence.
    """
    before = []
    for name in libraries:
        bars: Any = importlib.import_module(f"{name}.utils.logging")
        logger = logging.getLogger(name)
        before.append((bars, bars.is_progress_bar_enabled(), logger, logger.level))
        bars.disable_progress_bar()
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for bars, shown, logger, level in before:
            logger.setLevel(level)
            if shown:
                bars.enable_progress_bar()
