"""From documents to pieces of token ids, in an order that a seed decides and a run can return to."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from itertools import islice
from typing import Any, Final, NamedTuple

import msgspec

from ops.tuning.text import Document

Source = Callable[[], Iterator[Document]]
"""Starts the text from its beginning."""

HELD_OUT_SHARE: Final = 20  # one document in so many is for the report alone
# Documents are tokenized and shuffled by so many: more mix better, fewer are read again on resuming.
_WINDOW_DOCUMENTS: Final = 256


class Piece(NamedTuple):
    """Token ids that are read together, from position 0.

    Rows from `first` to the last but one are learned: row `i` foretells `ids[i + 1]`.
    """

    ids: list[int]
    first: int

    @property
    def rows(self) -> int:
        """How many rows are learned."""
        return len(self.ids) - 1 - self.first


class Position(msgspec.Struct, frozen=True):
    """Where in the text a run stands: before piece `piece` of window `window` of round `epoch`."""

    epoch: int = 0
    window: int = 0
    piece: int = 0


class Batch(NamedTuple):
    """Pieces for one step, and where the next step's begin."""

    pieces: list[Piece]
    after: Position

    @property
    def tokens(self) -> int:
        """Tokens read."""
        return sum(len(piece.ids) for piece in self.pieces)


class Encoder:
    """Turns documents into pieces.

    Args:
        tokenizer: the model's fast tokenizer.
        end: token that ends a document; None for a model without one.
        context: tokens that a piece may have; a longer document becomes several.
    """

    def __init__(self, tokenizer: Any, end: int | None, context: int) -> None:
        self._tokenizer = tokenizer
        self._end = end
        self._context = context

    def pieces(self, documents: Sequence[Document]) -> list[Piece]:
        """The pieces of all documents that have anything to learn, in order."""
        # A prompt is encoded apart from its text, as it is when the text is yet to be generated.
        prompted = [document for document in documents if document.prompt]
        prompts = iter(self._ids([document.prompt for document in prompted], special=True))
        continued = iter(self._ids([document.text for document in prompted], special=False))
        alone = iter(self._ids([each.text for each in documents if not each.prompt], special=True))
        found: list[Piece] = []
        for document in documents:
            prompt = next(prompts) if document.prompt else []
            ids = prompt + next(continued if document.prompt else alone)
            found += self._cut(self._ended(ids) if document.ends else ids, len(prompt))
        return found

    def _ids(self, texts: list[str], *, special: bool) -> list[list[int]]:
        if not texts:
            return []
        return list(self._tokenizer(texts, add_special_tokens=special, verbose=False)["input_ids"])

    def _ended(self, ids: list[int]) -> list[int]:
        return ids if self._end is None or ids[-1:] == [self._end] else [*ids, self._end]

    def _cut(self, ids: list[int], learned_from: int) -> Iterator[Piece]:
        for start in range(0, len(ids), self._context):
            piece = Piece(ids[start : start + self._context], max(0, learned_from - 1 - start))
            if piece.rows > 0:
                yield piece


def is_held_out(document: Document) -> bool:
    """Whether a document is for the report alone; equal documents are on the same side."""
    content = f"{document.prompt}\0{document.text}".encode()
    return int.from_bytes(blake2b(content, digest_size=8).digest()) % HELD_OUT_SHARE == 0


def held_out_pieces(source: Source, encoder: Encoder, tokens: int) -> list[Piece]:
    """The first held-out pieces of the text, until they have `tokens` learned rows."""
    found: list[Piece] = []
    rows = 0
    for document in filter(is_held_out, source()):
        for piece in encoder.pieces([document]):
            found.append(piece)
            rows += piece.rows
        if rows >= tokens:
            break
    return found


class PieceStream:
    """The training side of a text, round after round, shuffled within windows.

    Args:
        source: starts the text.
        encoder: cuts it.
        seed: of the order.
    """

    def __init__(self, source: Source, encoder: Encoder, seed: int) -> None:
        self._source = source
        self._encoder = encoder
        self._seed = seed

    def batches(self, start: Position, tokens: int) -> Iterator[Batch]:
        """Batches of at least `tokens` tokens from `start` on, without end; none if there is no text."""
        pieces: list[Piece] = []
        size = 0
        for piece, after in self._pieces(start):
            pieces.append(piece)
            size += len(piece.ids)
            if size >= tokens:
                yield Batch(pieces, after)
                pieces, size = [], 0

    def _pieces(self, start: Position) -> Iterator[tuple[Piece, Position]]:
        """Each piece with the position behind it, round after round."""
        found = True
        while found:
            found = start != Position(start.epoch)  # a run may have stopped at the end of a round
            for window, pieces in self._windows(start.epoch, start.window):
                for index in range(start.piece, len(pieces)):
                    found = True
                    yield pieces[index], Position(start.epoch, window, index + 1)
                start = Position(start.epoch, window + 1)
            start = Position(start.epoch + 1)

    def _windows(self, epoch: int, first: int) -> Iterator[tuple[int, list[Piece]]]:
        """Windows from number `first` on; those before are read past, not tokenized."""
        training = (document for document in self._source() if not is_held_out(document))
        rest = islice(training, first * _WINDOW_DOCUMENTS, None)
        window = first
        while documents := list(islice(rest, _WINDOW_DOCUMENTS)):
            pieces = self._encoder.pieces(documents)
            random.Random(f"{self._seed} {epoch} {window}").shuffle(pieces)  # noqa: S311 - not for secrets
            yield window, pieces
            window += 1
