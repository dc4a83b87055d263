"""What words mean, roughly, before the first lesson: a small table of word vectors.

A model trained from nothing knows only the words of its own templates. This table puts "chilly" near
"cold" and "hoover" near "vacuum" for some thousands of common words, so that a request in words of its
own still lands near one that was learned. It is made once, by `python -m ops.home.senses MODEL`, from
the sentence-transformers model all-MiniLM-L6-v2 (Apache-2.0): each word embedded by itself, the
principal components kept in eight bits.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

_TABLE: Final = Path(__file__).with_name("senses.npz")
DIMENSIONS: Final = 96
_COMMON_WORDS: Final = 1_500
_NEAR_WORDS: Final = 2_500
_BATCH: Final = 256


def common_words() -> list[str]:
    """The words of the table, most common first."""
    with np.load(_TABLE) as table:
        return [str(word) for word in table["words"]]


def token_senses(tokenizer: PreTrainedTokenizerFast) -> Tensor:
    """`(vocabulary, DIMENSIONS)`: unit vectors for tokens that are whole words, zeros for the others."""
    with np.load(_TABLE) as table:
        rows = {str(word): row for word, row in zip(table["words"], table["vectors"], strict=True)}
    senses = torch.zeros(len(tokenizer), DIMENSIONS)
    for word, row in rows.items():
        for spelled in (f" {word}", word):
            ids = tokenizer.encode(spelled, add_special_tokens=False)
            if len(ids) == 1:
                senses[ids[0]] = torch.from_numpy(row.astype(np.float32))
    return torch.nn.functional.normalize(senses, dim=1)


def make_table(folder: Path, own: Sequence[str]) -> None:
    """Write the table.

    Args:
        folder: the sentence-transformers model.
        own: the words of training's requests.
    """
    vocabulary = (folder / "vocab.txt").read_text(encoding="utf-8").split("\n")
    known = [word for word in vocabulary if word.isascii() and word.isalpha() and len(word) > 2]
    words = list(dict.fromkeys([*own, *known]))
    vectors = _embedded(folder, words)
    vectors -= vectors.mean(0)
    # Beside the most common words, those that are nearest to one of a home's.
    nearest = (
        torch.nn.functional.normalize(vectors, dim=1)
        @ torch.nn.functional.normalize(vectors[: len(own)], dim=1).T
    )
    common = set(known[:_COMMON_WORDS])
    likeness = nearest.amax(1) + torch.tensor([2.0 if word in common else 0.0 for word in words])
    kept = (
        likeness.argsort(descending=True, stable=True)[: len(own) + _COMMON_WORDS + _NEAR_WORDS].sort().values
    )
    words, vectors = [words[index] for index in kept.tolist()], vectors[kept]
    _, _, directions = torch.linalg.svd(vectors, full_matrices=False)
    reduced = torch.nn.functional.normalize(vectors @ directions[:DIMENSIONS].T, dim=1)
    small: npt.NDArray[np.int8] = (
        (reduced / reduced.abs().amax(1, keepdim=True) * 127).round().to(torch.int8).numpy()
    )
    np.savez_compressed(_TABLE, words=np.array(words), vectors=small)


@torch.no_grad()
def _embedded(folder: Path, words: Sequence[str]) -> Tensor:
    """`(words, width)`: the mean of the model's last states over each word's pieces."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModel.from_pretrained(folder).eval()
    parts = []
    for low in range(0, len(words), _BATCH):
        inputs = tokenizer(list(words[low : low + _BATCH]), return_tensors="pt", padding=True)
        states = model(**inputs).last_hidden_state
        mask = inputs["attention_mask"][:, :, None]
        parts.append((states * mask).sum(1) / mask.sum(1))
    return torch.nn.functional.normalize(torch.cat(parts), dim=1)


def main() -> None:
    """Make the table from the model in the folder given first and the words in the file given second."""
    torch.set_num_threads(1)
    extra = Path(sys.argv[2]).read_text(encoding="utf-8").split() if len(sys.argv) > 2 else []
    make_table(Path(sys.argv[1]), extra)


if __name__ == "__main__":
    main()
