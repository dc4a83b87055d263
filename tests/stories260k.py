"""A model with real weights, small enough for any machine: 260,000 parameters that tell children's stories.

It is not part of this repository: tests that want it look in `../shared/data/stories260K` (a Hugging Face
folder `hf`, and llama2.c's `tok512.bin`) and are skipped where that is absent. For the bench:

    python -m tests.stories260k bundles/stories
    antiphon bench codec --bundle home --bundle bundles/stories \\
        --text bundles/stories.jsonl --text ../shared/data/summaries/xsum.jsonl --jsonl-field prompt
"""

from __future__ import annotations

import json
import shutil
import struct
import sys
import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, processors
from transformers import PreTrainedTokenizerFast

from ops.prepare import prepare
from shared.model.bundle import Bundle

FOLDER = Path(__file__).parents[2] / "shared" / "data" / "stories260K"
MISSING = f"{FOLDER.name} is not there"
SPECIAL = ["<unk>", "<s>", "</s>"]
EXITS = [2, 3]  # of five layers

_WHO = (
    "a little girl named Lily",
    "a boy named Tim",
    "a big brown dog",
    "a small cat",
    "two friends, Tom and Mia",
)
_WHERE = (
    "in a house near the sea",
    "in the park with mom",
    "under a tall tree",
    "in a room full of toys",
    "by the river",
    "on a farm with many animals",
)
_THEN = ("One day it was very sunny.", "It was raining outside.", "They found a red box.")


def is_there() -> bool:
    """Whether this machine has the model."""
    return (FOLDER / "hf" / "model.safetensors").exists() and (FOLDER / "tok512.bin").exists()


def beginnings() -> list[str]:
    """Stories that the model can go on with."""
    return [
        f"Once upon a time, there was {who} {where}. {then}"
        for who, where, then in product(_WHO, _WHERE, _THEN)
    ]


def make_bundle(out: Path) -> Bundle:
    """Cut the model into a bundle."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(
            shutil.copytree(FOLDER / "hf", Path(folder) / "checkpoint", copy_function=shutil.copyfile)
        )
        checkpoint.chmod(0o755)  # the model's own folder may be read-only
        _tokenizer().save_pretrained(checkpoint)
        return prepare(checkpoint, EXITS, None, out, name="stories260k")


def _tokenizer() -> PreTrainedTokenizerFast:
    """llama2.c's: pairs are merged in the order of the vocabulary; what has no piece becomes bytes."""
    pieces = [*SPECIAL, *list(_pieces())[len(SPECIAL) :]]
    places = {piece: place for place, piece in enumerate(pieces)}
    merges = [
        (piece[:cut], piece[cut:])
        for piece in pieces[len(SPECIAL) + 256 :]
        for cut in range(1, len(piece))
        if piece[:cut] in places and piece[cut:] in places
    ]
    tokenizer = Tokenizer(models.BPE(places, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Prepend(" ")
    tokenizer.decoder = decoders.Sequence(
        [decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


def _pieces() -> Iterator[str]:
    data = (FOLDER / "tok512.bin").read_bytes()
    offset = 4  # the longest piece's length comes first
    while offset < len(data):
        _score, length = struct.unpack_from("<fi", data, offset)
        yield data[offset + 8 : offset + 8 + length].decode()
        offset += 8 + length


def main() -> None:
    """Make the bundle, and texts for it beside it."""
    out = Path(sys.argv[1])
    make_bundle(out)
    lines = (json.dumps({"prompt": text}) + "\n" for text in beginnings())
    out.with_suffix(".jsonl").write_text("".join(lines))


if __name__ == "__main__":
    main()
