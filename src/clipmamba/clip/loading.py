"""Load a CLIP model by name, with all of its trained weights, or fail.

Folders in the format of `mini` load into `towers`; every other model is loaded by open_clip.
open_clip itself returns a random model for an empty folder, resizes position tables of the wrong
length, and retries an unreachable Hub for 23 seconds. Here each of these is an immediate
`WeightsError`.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from clipmamba.clip.tokenizer import Tokenizer
from clipmamba.clip.towers import MiniTowers
from clipmamba.errors import InputError, WeightsError
from clipmamba.files import one_line
from clipmamba.hub_access import hub_errors, knock, offline

MINI = "mini"
MINI_FOLDER = Path(__file__).parents[1] / "weights" / MINI
CONFIG_NAME = "open_clip_config.json"
SAFE_WEIGHTS_NAME = "open_clip_model.safetensors"
PICKLED_WEIGHTS_NAME = "open_clip_pytorch_model.bin"
HUB_PREFIX = "hf-hub:"
FOLDER_PREFIX = "local-dir:"

_PREPROCESS_KEYS = {"size", "mode", "mean", "std", "interpolation", "resize_mode", "fill_color"}
_WEIGHTS_NAMES = (  # in open_clip's order
    SAFE_WEIGHTS_NAME,
    "open_clip_pytorch_model.safetensors",
    PICKLED_WEIGHTS_NAME,
    "open_clip_pytorch_model.pth",
    "model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.pth",
    "model.pth",
)
_TOKENIZER_FILES = ["*token*", "vocab*", "merges.txt", "*.model", "*.spm"]


@dataclass(frozen=True)
class LoadedClip:
    """A CLIP model with its weights, tokenizer and preprocessing settings.

    Attributes:
        model: Has `encode_text`, `encode_image` and `context_length`, like open_clip's models.
        tokenizer: Converts a list of texts to token ids.
        embed_dim: Width E of the embeddings.
        preprocess_config: open_clip's `preprocess_cfg`, including the size.
    """

    model: torch.nn.Module
    tokenizer: Any
    embed_dim: int
    preprocess_config: dict[str, Any]


def load_clip(name: str, cache_dir: str | None, local_files_only: bool | None) -> LoadedClip:
    """Load a CLIP model strictly.

    Args:
        name: "mini", "ARCH/TAG", "hf-hub:org/name" or a local folder.
        cache_dir: Cache folder for Hub files; None for the default one.
        local_files_only: Never use the network; None looks at `HF_HUB_OFFLINE`.

    Raises:
        InputError: The name is empty.
        WeightsError: The model is unknown, or weights are missing, incomplete, unreachable or do
            not fit.
    """
    if not name:
        raise InputError(
            "the CLIP name is empty; use 'mini', ARCH/TAG, hf-hub:org/name or a folder"
        )
    if name == MINI:
        return _load_folder(MINI_FOLDER)
    if name.startswith(HUB_PREFIX):
        return _load_hub(name.removeprefix(HUB_PREFIX), cache_dir, local_files_only)
    folder = Path(name.removeprefix(FOLDER_PREFIX)).expanduser()
    if folder.exists() or name.startswith((FOLDER_PREFIX, ".", "/", "~")):
        return _load_folder(folder)
    return _load_tag(name, cache_dir, local_files_only)


def _load_folder(folder: Path) -> LoadedClip:
    config = _read_config(folder)
    model_config = config["model_cfg"]
    weights = _weights_file(folder)
    if weights.suffix == ".safetensors" and MiniTowers.fits(model_config):
        preprocess = {"size": model_config["vision_cfg"]["image_size"], **config["preprocess_cfg"]}
        towers = MiniTowers.load(weights, model_config)
        return LoadedClip(
            towers, Tokenizer(towers.context_length), model_config["embed_dim"], preprocess
        )
    location = f"{FOLDER_PREFIX}{folder}"
    with _broken_weights(str(folder)):
        import open_clip

        model = open_clip.create_model(location, require_pretrained=True)
        _refuse_resized(model, weights)
        _refuse_not_finite(model, weights)
        local = {"local_files_only": True} if _hf_tokenizer(model_config) else {}
        tokenizer = open_clip.get_tokenizer(location, **local)
    return LoadedClip(
        model, tokenizer, model_config["embed_dim"], dict(model.visual.preprocess_cfg)
    )


def _weights_file(folder: Path) -> Path:
    """Find the weights file that open_clip would use: by name, else the first safetensors."""
    kinds = ("safetensors", "bin", "pth")
    files = [path for kind in kinds for path in sorted(folder.glob(f"*.{kind}"))]
    if not files:
        raise WeightsError(f"no weights in {folder}: {SAFE_WEIGHTS_NAME} is missing")
    by_name = {path.name: path for path in files}
    return next((by_name[name] for name in _WEIGHTS_NAMES if name in by_name), files[0])


def _hf_tokenizer(model_config: dict[str, Any]) -> str:
    """Return the name of a Hugging Face tokenizer; empty for open_clip's own."""
    return str(model_config["text_cfg"].get("hf_tokenizer_name") or "")


def _read_config(folder: Path) -> dict[str, Any]:
    """Read a folder's config, with checks that open_clip does not make."""
    path = folder / CONFIG_NAME
    if not folder.is_dir():
        raise WeightsError(f"no CLIP folder at {folder}")
    if not path.is_file():
        raise WeightsError(f"{folder} is not an open_clip folder: {CONFIG_NAME} is missing")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        missing = {"embed_dim", "vision_cfg", "text_cfg"} - set(config["model_cfg"])
        unknown = set(config.get("preprocess_cfg", {})) - _PREPROCESS_KEYS
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{path} is not an open_clip config: {one_line(error)}") from error
    if missing:
        raise WeightsError(f"{path}: model_cfg lacks {', '.join(sorted(missing))}")
    if unknown:
        raise WeightsError(f"{path}: preprocess_cfg has unknown {', '.join(sorted(unknown))}")
    return dict(config)


def _load_hub(repo: str, cache_dir: str | None, local_files_only: bool | None) -> LoadedClip:
    weights = _fetch(repo, (SAFE_WEIGHTS_NAME, PICKLED_WEIGHTS_NAME), cache_dir, local_files_only)
    folder = _fetch(repo, (CONFIG_NAME,), cache_dir, local_files_only).parent
    if weights.parent != folder:
        raise WeightsError(
            f"the cache holds weights and config of {repo} from different versions; "
            f"run: hf download {repo}"
        )
    if _hf_tokenizer(_read_config(folder)["model_cfg"]):
        _fetch(repo, ("tokenizer_config.json",), cache_dir, local_files_only, _TOKENIZER_FILES)
    return _load_folder(folder)


def _load_tag(name: str, cache_dir: str | None, local_files_only: bool | None) -> LoadedClip:
    import open_clip

    architecture, _, tag = name.rpartition("/")
    if not architecture:
        architecture, tag = name, ""
    known = open_clip.list_models()
    if architecture not in known:
        hint = _did_you_mean(architecture, [MINI, *known])
        raise WeightsError(
            f"no CLIP named {name!r}{hint}; use 'mini', ARCH/TAG as in open_clip, "
            "hf-hub:org/name or a folder"
        )
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    release = open_clip.get_pretrained_cfg(architecture, tag)
    if not release:
        hint = _did_you_mean(tag, tags) if tag else ""
        raise WeightsError(
            f"{architecture} needs one of its released weights{hint}: "
            f"{architecture}/TAG with TAG one of {', '.join(tags) or '(none)'}"
        )
    repo, file = os.path.split(release["hf_hub"])
    names = (file,) if file else (SAFE_WEIGHTS_NAME, PICKLED_WEIGHTS_NAME)
    weights = _fetch(repo, names, cache_dir, local_files_only)
    config = open_clip.get_model_config(architecture)
    with _broken_weights(name):
        model = open_clip.create_model(
            architecture,
            pretrained=str(weights),
            require_pretrained=True,
            # Given a file instead of a tag, open_clip does not know the tag's settings.
            force_quick_gelu=bool(release.get("quick_gelu")),
            force_preprocess_cfg={k: v for k, v in release.items() if k in _PREPROCESS_KEYS},
        )
        _refuse_not_finite(model, weights)
        local = {"local_files_only": offline(local_files_only)} if _hf_tokenizer(config) else {}
        tokenizer = open_clip.get_tokenizer(architecture, cache_dir=cache_dir, **local)
    return LoadedClip(model, tokenizer, config["embed_dim"], dict(model.visual.preprocess_cfg))


def _fetch(
    repo: str,
    names: tuple[str, ...],
    cache_dir: str | None,
    local_files_only: bool | None,
    patterns: list[str] | None = None,
) -> Path:
    """Get the first of `names` in a Hub repository, from the cache or by download.

    With `patterns`, the download includes every matching file of the repository.
    """
    import huggingface_hub as hub

    try:
        for name in names:
            cached = hub.try_to_load_from_cache(repo, name, cache_dir=cache_dir)
            if isinstance(cached, str):
                return Path(cached)
    except hub.errors.HFValidationError as error:
        raise WeightsError(f"{repo!r} is not a Hub repository; use hf-hub:org/name") from error
    wanted = " or ".join(names)
    remedy = f"with network access, run: hf download {repo} {' '.join(names[:1])} {CONFIG_NAME}"
    if offline(local_files_only):
        raise WeightsError(f"{wanted} of {repo} is not in the local cache; {remedy}")
    knock(f"{wanted} of {repo} is not in the local cache", remedy)
    for name in names:
        with hub_errors(f"can't download {name} of {repo}"):
            try:
                path = hub.hf_hub_download(repo, name, cache_dir=cache_dir)
            except hub.errors.LocalEntryNotFoundError:  # no response; a subclass of the next
                raise
            except hub.errors.EntryNotFoundError:
                continue
            if patterns:
                hub.snapshot_download(repo, allow_patterns=patterns, cache_dir=cache_dir)
        return Path(path)
    raise WeightsError(f"the Hub repository {repo} has no {wanted}")


def _refuse_resized(model: torch.nn.Module, weights: Path) -> None:
    """Refuse tensors that open_clip resized to fit, such as a position table."""
    from open_clip.factory import load_state_dict

    expected = model.state_dict()
    for key, value in load_state_dict(str(weights)).items():
        shape = tuple(value.shape)
        # A scalar may be stored as one element; anything else must fit as it is.
        if key in expected and shape != tuple(expected[key].shape) and shape not in ((), (1,)):
            raise WeightsError(
                f"{weights}: {key} has shape {shape}, but the config needs "
                f"{tuple(expected[key].shape)}"
            )


def _refuse_not_finite(model: torch.nn.Module, weights: Path) -> None:
    for name, value in model.state_dict().items():
        if value.is_floating_point() and not value.isfinite().all():
            raise WeightsError(f"{weights}: {name} holds values that are not finite")


@contextlib.contextmanager
def _broken_weights(where: str) -> Iterator[None]:
    """Convert exceptions of open_clip, safetensors and torch for bad files to `WeightsError`."""
    import pickle

    from safetensors import SafetensorError

    try:
        yield
    except WeightsError:
        raise
    except (
        RuntimeError,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        AssertionError,
        StopIteration,  # open_clip, for a file without tensors
        EOFError,
        OSError,
        ImportError,
        pickle.UnpicklingError,
        SafetensorError,
    ) as error:
        raise WeightsError(f"can't load CLIP from {where}: {one_line(error)}") from error


def _did_you_mean(word: str, choices: Iterable[str]) -> str:
    by_lower = {choice.lower(): choice for choice in choices}
    close = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.5)
    return f", did you mean {by_lower[close[0]]!r}?" if close else ""
