"""Models saved as a folder with config.json and safetensors, in diffusers' format."""

from __future__ import annotations

import functools
import inspect
import json
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Concatenate, ParamSpec, Self, TypeVar

import torch
from torch import nn

from clipmamba.errors import WeightsError
from clipmamba.files import one_line, write_json
from clipmamba.hub import HubName, fetch
from clipmamba.hub_access import hub_errors, make_repository
from clipmamba.weights import check_shapes, loading, read_tensors, uninitialized, write_tensors

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "diffusion_pytorch_model.safetensors"  # the name that diffusers' tools expect

_Model = TypeVar("_Model", bound="Pretrained")
_Options = ParamSpec("_Options")


class Config(dict[str, Any]):
    """The arguments that a model was built with; `config.depth` is `config["depth"]`."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the config has no {name!r}") from None


def configured(
    init: Callable[Concatenate[_Model, _Options], None],
) -> Callable[Concatenate[_Model, _Options], None]:
    """Decorate an `__init__` to store its arguments, defaults included, as `self.config`.

    Raises:
        ValueError: An argument is a number that is not finite.
    """
    signature = inspect.signature(init)

    @functools.wraps(init)
    def keeping(self: _Model, *args: _Options.args, **kwargs: _Options.kwargs) -> None:
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        values = dict(list(bound.arguments.items())[1:])
        for name, value in values.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{name} must be a finite number, not {value}")
        init(self, *args, **kwargs)
        self.config = Config(
            {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        )

    return keeping  # type: ignore[return-value]  # mypy takes the first argument for a keyword


class Pretrained(nn.Module):
    """A module with `from_pretrained` and `save_pretrained`; its `__init__` is `configured`.

    The folder has the format of diffusers' models. Loading patches nothing outside the model, so
    other threads may build and load models at the same time.

    Attributes:
        config: The arguments of `__init__`.
        keep_in_float32: Names (last part) of parameters that stay float32 under any `torch_dtype`.
    """

    config: Config
    keep_in_float32: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        *,
        torch_dtype: torch.dtype = torch.float32,
        cache_dir: str | Path | None = None,
        local_files_only: bool | None = None,
        **changes: Any,
    ) -> Self:
        """Load a model, in evaluation mode; every weight must fit, none may be missing.

        Args:
            path: A folder written by `save_pretrained`, or, as a string, the name of a model of the
                Hub such as "user/name@v1".
            torch_dtype: Dtype of the parameters.
            cache_dir: Cache folder for Hub files; None for the default one.
            local_files_only: Never use the network; None follows `HF_HUB_OFFLINE`.
            changes: Arguments of `__init__` in place of the saved ones.

        Raises:
            WeightsError: Weights are missing, unknown, of the wrong shape, not finite or
                unreadable; or the config is unreadable or has an unknown key.
        """
        folder = Path(path).expanduser()
        if not folder.is_dir():
            folder = _from_hub(cls, path, cache_dir, local_files_only)
        config = {**_read_config(cls, folder / CONFIG_NAME), **changes}
        with loading():
            try:
                with uninitialized():
                    model = cls(**config)
            except (ValueError, TypeError) as error:
                raise WeightsError(f"can't build the {_name(cls)} of {folder}: {error}") from error
            tensors, _ = read_tensors(folder / WEIGHTS_NAME)
            check_shapes(folder / WEIGHTS_NAME, tensors, model.state_dict())
            for name, value in tensors.items():
                if value.is_floating_point():
                    keep = name.split(".")[-1] in cls.keep_in_float32
                    tensors[name] = value.to(torch.float32 if keep else torch_dtype)
            model.load_state_dict(tensors, assign=True)
        return model.eval()

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `config.json` and the weights, in their own dtypes.

        Args:
            folder: Where to; created if missing.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_tensors(folder / WEIGHTS_NAME, self.state_dict(), {"format": "pt"})
        config = {"_class_name": type(self).__name__, **self.config}
        write_json(folder / CONFIG_NAME, dict(sorted(config.items())))

    def push_to_hub(self, repo_id: str, *, private: bool | None = None, token: Any = None) -> str:
        """Upload the folder of `save_pretrained` to a Hub repository.

        Args:
            repo_id: The repository, such as "name/model"; created if missing.
            private: Whether a new repository is private; None for the account's default. True
                refuses a public one that exists.
            token: Access token; None for the stored one.

        Returns:
            The URL of the commit.

        Raises:
            InputError: The repository is public although `private` is True.
            WeightsError: The Hub is out of reach or refuses.
        """
        import huggingface_hub as hub

        api, problem = hub.HfApi(token=token), f"can't push {repo_id}"
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            repo = make_repository(api, repo_id, private, problem)
            with hub_errors(problem):
                return str(api.upload_folder(repo_id=repo, folder_path=folder).commit_url)


def _from_hub(
    model: type[Pretrained],
    path: str | Path,
    cache_dir: str | Path | None,
    local_files_only: bool | None,
) -> Path:
    name = HubName.parse(path) if isinstance(path, str) else None
    if name is None:
        raise WeightsError(f"no {_name(model)} folder at {path}")
    try:
        files = (CONFIG_NAME, WEIGHTS_NAME)
        return fetch(name, files, cache_dir=cache_dir, local_files_only=local_files_only)
    except WeightsError as error:
        raise WeightsError(f"no {_name(model)} folder {name}, and {error}") from error


def _read_config(model: type[Pretrained], path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text("utf-8"))
        config = {key: value for key, value in values.items() if not key.startswith("_")}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise WeightsError(f"can't read {path}: {one_line(error)}") from error
    unknown = set(config) - set(inspect.signature(model.__init__).parameters)
    if unknown:
        raise WeightsError(f"{path} has unknown keys: {', '.join(sorted(unknown))}")
    return config


def _name(model: type[Pretrained]) -> str:
    return model.__name__.lower()
