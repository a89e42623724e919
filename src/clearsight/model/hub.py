"""From a model's name to its folder: the packaged nano, short names, local folders, and the hub's checkpoints."""

from __future__ import annotations

import contextlib
import re
from importlib import resources
from pathlib import Path

from clearsight.config import PRESETS, ConfigError, ModelConfig, config_from_json, read_json
from clearsight.model.lora import CONFIG_FILE

OFFICIAL = {
    "2b": "Qwen/Qwen2-VL-2B-Instruct",
    "7b": "Qwen/Qwen2-VL-7B-Instruct",
    "72b": "Qwen/Qwen2-VL-72B-Instruct",
}
"""Hub names of the short names."""

LICENCES = {"nano": "Apache-2.0", "2b": "Apache-2.0", "7b": "Apache-2.0", "72b": "Qwen licence"}
"""Of the weights (facts, 1.1)."""

# Settings, vocabulary and safetensors: nothing that could run code, and no second copy of the weights.
_SETTINGS = ["*.json", "merges.txt"]
_WEIGHTS = ["*.safetensors"]

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


class ModelNotFound(ValueError):
    """No model goes by this name, or it cannot be fetched; the text says which."""


def resolve(name: str, *, offline: bool | None = None, weights: bool = True) -> Path:
    """The folder of the model `name`, downloaded first if it is a hub name (with progress, resumable, cached).

    name: "nano", "2b", "7b", "72b", a folder, or a hub name "owner/name". offline None follows HF_HUB_OFFLINE.
    weights False leaves the safetensors out. Raises ModelNotFound, in one sentence.
    """
    if name == "nano":
        folder = Path(str(resources.files("clearsight"))) / "data" / "nano"
    elif name in OFFICIAL:
        folder = _from_hub(OFFICIAL[name], offline, weights)
    elif name and Path(name).expanduser().is_dir():
        folder = Path(name).expanduser()
    elif _HUB_NAME.fullmatch(name):
        folder = _from_hub(name, offline, weights)
    else:
        raise ModelNotFound(
            f"unknown model {name!r}; use {', '.join(PRESETS)}, an existing folder or a hub name OWNER/NAME"
        )
    if not (folder / "config.json").is_file():
        raise ModelNotFound(f"{folder} holds no config.json, so it is not a model folder")
    return folder


def resolve_adapter(adapter: str | Path, model: str) -> Path:
    """The folder of an adapter: one that is there, or one in the model's folder (nano: "games", "shop").

    Raises ModelNotFound.
    """
    folder = Path(adapter).expanduser()
    if folder.is_dir():
        return folder
    own: dict[str, Path] = {}
    with contextlib.suppress(ModelNotFound):  # a model of random weights has no folder
        home = resolve(model, offline=True, weights=False)
        own = {found.parent.name: found.parent for found in sorted(home.glob(f"*/{CONFIG_FILE}"))}
    if str(adapter) not in own:
        known = f"; {model} brings {', '.join(own)}" if own else ""
        raise ModelNotFound(f"the adapter {str(adapter)!r} is no folder{known}")
    return own[str(adapter)]


def short_name(name: str) -> str | None:
    """The preset that `name` stands for, if it is a short name or an official hub name."""
    if name in PRESETS:
        return name
    return next((short for short, official in OFFICIAL.items() if official == name), None)


def preset_for(name: str) -> ModelConfig:
    """The shape of `name` without any download. Raises ModelNotFound if it is not one of the presets."""
    short = short_name(name)
    if short is None:
        raise ModelNotFound(f"{name!r} has no preset; without a checkpoint, use one of {', '.join(PRESETS)}")
    return PRESETS[short]


def read_config(folder: Path) -> ModelConfig:
    """The shape that `folder`/config.json describes. Raises ConfigError naming the file and the key."""
    data = read_json(folder / "config.json")
    try:
        return config_from_json(data)
    except ConfigError as error:
        raise ConfigError(f"{folder / 'config.json'}: {error}") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"{folder / 'config.json'} holds a value of the wrong kind: {error}") from error


def _from_hub(name: str, offline: bool | None, weights: bool) -> Path:
    # Here, for the library takes a while to import and a packaged or local model has no use for it.
    import huggingface_hub
    from huggingface_hub import constants
    from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError

    local_only = constants.HF_HUB_OFFLINE if offline is None else offline
    try:
        folder = huggingface_hub.snapshot_download(
            name,
            allow_patterns=_SETTINGS + (_WEIGHTS if weights else []),
            local_files_only=local_only,
        )
    except GatedRepoError as error:
        raise ModelNotFound(f"{name} asks for an access token that was not given or is not accepted") from error
    except RepositoryNotFoundError as error:
        raise ModelNotFound(f"the hub has no public model named {name!r}") from error
    except LocalEntryNotFoundError as error:
        if local_only:
            raise ModelNotFound(f"{name} is not (or not wholly) in the local cache, and downloads are off") from error
        raise ModelNotFound(f"{name} could not be downloaded: {_reason(error)}") from error
    except Exception as error:  # the downloader lets its HTTP library's own errors through
        raise ModelNotFound(f"{name} could not be downloaded: {_reason(error)}") from error
    return Path(folder)


def _reason(error: BaseException) -> str:
    """The first line of the innermost error: what really went wrong."""
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).strip() or type(error).__name__).splitlines()[0]
