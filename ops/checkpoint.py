"""A Hugging Face checkpoint folder: its configuration, its shards, and names without their prefixes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer

from shared.errors import BundleError, UnsupportedModelError

CONFIG_FILE = "config.json"
EXITS_FILE = "exits.safetensors"
_SINGLE_FILE = "model.safetensors"
_INDEX_FILE = "model.safetensors.index.json"
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    # Some tokenizer classes look at the model's type to choose themselves.
    CONFIG_FILE,
)
# Multimodal Gemma 3 nests its language model, one way in old checkpoints and another in new ones;
# a checkpoint of the bare body has no prefix at all.
_BODY = re.compile(
    r"(?:model\.language_model\.|language_model\.model\.|model\.)?(embed_tokens|layers|norm)\."
)
_HEAD = re.compile(r"(?:language_model\.)?lm_head\.")


@dataclass(frozen=True)
class TensorInfo:
    """Where a tensor lies and what it is; `dtype` as in safetensors headers ("BF16")."""

    file: Path
    name: str
    shape: tuple[int, ...]
    dtype: str


class Checkpoint:
    """An opened checkpoint. Opening reads headers only.

    `tensors` maps plain names (`layers.3.mlp.up_proj.weight`, `embed_tokens.weight`, `norm.weight`,
    `lm_head.weight`, `exit.8.norm.weight`) to where they are; what is no part of the language model
    is left out.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise BundleError(f"{folder} is no folder. Give the folder that holds the model's config.json.")
        self.folder = folder
        self.config = _text_config(read_json(folder / CONFIG_FILE))
        self.family = str(self.config["model_type"])
        self.tensors: dict[str, TensorInfo] = {}
        for shard in _shards(folder):
            self._index(shard, _plain_name)
        if (exits := folder / EXITS_FILE).exists():
            self._index(exits, _exit_name)

    def tokenizer_files(self) -> list[Path]:
        """The files that make the tokenizer, its chat template included.

        Raises:
            BundleError: there is no fast tokenizer.
        """
        fast = self.folder / "tokenizer.json"
        if not fast.exists():
            raise BundleError(
                f"{self.folder} has no tokenizer.json. Download the model's tokenizer files into it, or "
                "write them with transformers: AutoTokenizer.from_pretrained(MODEL).save_pretrained(FOLDER)."
            )
        _check_tokenizer(fast)
        return [path for name in _TOKENIZER_FILES if (path := self.folder / name).exists()]

    def eos_token_ids(self) -> tuple[int, ...]:
        """Token ids that end an answer: the generation settings' own, else the configuration's."""
        generation = self.folder / "generation_config.json"
        settings = read_json(generation) if generation.exists() else {}
        found = settings.get("eos_token_id", self.config.get("eos_token_id"))
        if found is None:
            return ()
        return tuple(found) if isinstance(found, list) else (int(found),)

    def _index(self, file: Path, rename: Callable[[str], str | None]) -> None:
        with open_tensors(file) as handle:
            for name in handle.keys():  # noqa: SIM118 - a safetensors handle is no mapping
                plain = rename(name)
                if plain is None:
                    continue
                part = handle.get_slice(name)
                self.tensors[plain] = TensorInfo(file, name, tuple(part.get_shape()), part.get_dtype())


@contextmanager
def open_tensors(file: Path) -> Iterator[Any]:
    """Open one safetensors file; a damaged one is a `BundleError`."""
    try:
        with safe_open(file, framework="pt") as handle:
            yield handle
    except FileNotFoundError as error:
        raise BundleError(f"{file} is missing. Download the checkpoint's shards again.") from error
    except (SafetensorError, OSError) as error:
        raise BundleError(
            f"{file} is no whole safetensors file ({error}): cut short? Download it again."
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a checkpoint; missing or malformed is a `BundleError`."""
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise BundleError(f"{path} is missing. Give a whole Hugging Face checkpoint folder.") from error
    except (OSError, ValueError) as error:
        raise BundleError(f"{path} can't be read as JSON ({error}). Download it again.") from error
    if not isinstance(value, dict):
        raise BundleError(f"{path} holds no JSON object. Download it again.")
    return value


def _text_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The language model's configuration; it is nested in multimodal Gemma 3."""
    if "model_type" not in config:
        raise UnsupportedModelError(
            "config.json names no model_type. Give a Hugging Face causal-LM checkpoint."
        )
    if config["model_type"] != "gemma3":
        return dict(config)
    outer = {key: config[key] for key in ("eos_token_id", "tie_word_embeddings") if key in config}
    return {"model_type": "gemma3_text", **outer, **config.get("text_config", {})}


def _plain_name(name: str) -> str | None:
    if match := _BODY.match(name):
        return name[match.start(1) :]
    if match := _HEAD.match(name):
        return "lm_head." + name[match.end() :]
    return None


def _exit_name(name: str) -> str | None:
    return name if name.startswith("exit.") else None


def _check_tokenizer(path: Path) -> None:
    try:
        Tokenizer.from_file(str(path))
    except Exception as error:  # the binding raises bare Exception
        raise BundleError(f"{path} is no tokenizer that can be read ({error}). Download it again.") from error


def _shards(folder: Path) -> list[Path]:
    if (index := folder / _INDEX_FILE).exists():
        names = read_json(index).get("weight_map", {}).values()
        return [_shard(folder, name) for name in sorted(set(names))]
    if (single := folder / _SINGLE_FILE).exists():
        return [single]
    if any(folder.glob("pytorch_model*.bin")):
        raise BundleError(
            f"{folder} holds PyTorch .bin weights, which can run code when read. Convert them to "
            "safetensors: AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(NEW_FOLDER)."
        )
    raise BundleError(f"{folder} holds no {_SINGLE_FILE} and no {_INDEX_FILE}. Download the weights into it.")


def _shard(folder: Path, name: str) -> Path:
    if Path(name).name != name:
        raise BundleError(f"{_INDEX_FILE} names {name!r}, which lies outside the folder. Don't use it.")
    return folder / name
