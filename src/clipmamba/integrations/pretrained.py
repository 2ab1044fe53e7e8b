"""Models of transformers and diffusers, by the name of a folder or of a hub's repository."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from clipmamba.errors import InputError, WeightsError
from clipmamba.files import one_line
from clipmamba.hub_access import knock, offline
from clipmamba.weights import loading

if TYPE_CHECKING:
    import torch

_Model = TypeVar("_Model")


def check_packages(what: str, packages: Sequence[str], extra: str) -> None:
    """Refuse, without importing anything, what needs a package that is not installed.

    Raises:
        InputError: One is missing; the message names the extra that brings it.
    """
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise InputError(f"{what} needs {package}: pip install 'clipmamba[{extra}]'")


def check_name(what: str, name: str, index: str) -> None:
    """Refuse, without importing anything heavy, a name that no model can have.

    Args:
        what: What the model is for the user, as "captioner".
        name: A folder, or a hub's repository.
        index: The file that every such model has.

    Raises:
        WeightsError: A folder without that file, or neither a folder nor a hub's name.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / index).is_file():
            raise WeightsError(f"{folder} holds no {what}: it has no {index}")
        return
    try:
        validate_repo_id(name)
    except HFValidationError:
        raise WeightsError(
            f"no {what} {name!r}: give a folder that is there, or a hub's name as owner/model"
        ) from None


def load_model(
    what: str, name: str, index: str, libraries: Sequence[str], load: Callable[..., _Model]
) -> _Model:
    """Load a model from a folder, else from the hub's cache, else from the hub.

    Args:
        what: What the model is for the user.
        name: A folder, or a hub's repository.
        index: The file that every such model has.
        libraries: Those of transformers and diffusers that load it.
        load: `from_pretrained` of a class, or several of them; takes the name and
            `local_files_only`.

    Raises:
        WeightsError: It is not there, out of reach, or can't be loaded; in one line.
    """
    import huggingface_hub as hub

    check_name(what, name, index)
    folder = Path(name).expanduser()
    with loading(), quiet(libraries):
        if folder.is_dir():
            with _one_line_of(what, name):
                return load(str(folder), local_files_only=True)
        if isinstance(hub.try_to_load_from_cache(name, index), str):
            with _one_line_of(what, name):
                try:
                    return load(name, local_files_only=True)
                except OSError:  # a part is missing
                    if offline():
                        raise
        remedy = f"with a network, run: hf download {name}; or give a folder"
        problem = f"the {what} {name} is neither a folder here nor in the local cache"
        if offline():
            raise WeightsError(f"{problem}; {remedy}")
        knock(problem, remedy)
        with _one_line_of(what, name):
            return load(name, local_files_only=False)


def short_name(name: str) -> str:
    """A model's name as others may read it: of a folder without the place where it lies."""
    folder = Path(name).expanduser()
    return folder.resolve().name if folder.is_dir() else name


def choose_precision(device: torch.device) -> torch.dtype:
    """Half precision on CUDA; elsewhere float32, as half is slow on a CPU and unsafe on others."""
    import torch

    return torch.float16 if device.type == "cuda" else torch.float32


@contextlib.contextmanager
def _one_line_of(what: str, name: str) -> Iterator[None]:
    """Turn what transformers, diffusers, safetensors and torch raise into a `WeightsError`."""
    import pickle

    from safetensors import SafetensorError

    try:
        yield
    except (
        OSError,
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
        raise WeightsError(f"can't load the {what} {name}: {one_line(error)}") from error


@contextlib.contextmanager
def quiet(libraries: Sequence[str]) -> Iterator[None]:
    """Keep remarks and progress bars of libraries away; what goes wrong is raised.

    Args:
        libraries: Of transformers and diffusers.
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
