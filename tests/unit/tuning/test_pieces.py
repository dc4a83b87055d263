"""Pieces: what is learned of a document, what is held out, and returning to a place in the text."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from ops.tuning.pieces import Encoder, PieceStream, Position, held_out_pieces, is_held_out
from ops.tuning.text import Document

END = 1000


class LetterTokenizer:
    """A token for each letter; 900 begins a text where special tokens are wanted."""

    def __call__(
        self, texts: list[str], *, add_special_tokens: bool, verbose: bool
    ) -> dict[str, list[list[int]]]:
        start = [900] if add_special_tokens else []
        return {"input_ids": [start + [ord(letter) for letter in text] for text in texts]}


def encoder(context: int = 50, end: int | None = END) -> Encoder:
    return Encoder(LetterTokenizer(), end, context)


def letters(text: str) -> list[int]:
    return [ord(letter) for letter in text]


def numbered(count: int) -> list[Document]:
    return [Document(f"document {number}") for number in range(count)]


def stream(texts: list[Document], seed: int = 0) -> PieceStream:
    def source() -> Iterator[Document]:
        return iter(texts)

    return PieceStream(source, encoder(), seed)


def test_a_document_is_learned_whole_and_ends() -> None:
    (piece,) = encoder().pieces([Document("abc")])
    assert (piece.ids, piece.first, piece.rows) == ([900, *letters("abc"), END], 0, 4)


def test_a_block_of_a_longer_text_does_not_end() -> None:
    (piece,) = encoder().pieces([Document("abc", ends=False)])
    assert piece.ids == [900, *letters("abc")]


def test_of_a_prompted_document_only_the_text_is_learned() -> None:
    first, second = encoder().pieces([Document("plain"), Document("yes", prompt="really?")])
    assert first.first == 0
    assert second.ids == [900, *letters("really?yes"), END]
    learned = [second.ids[row + 1] for row in range(second.first, len(second.ids) - 1)]
    assert learned == [*letters("yes"), END]
    assert second.rows == len(learned)


def test_a_long_document_becomes_pieces_of_at_most_the_context() -> None:
    pieces = encoder(context=10).pieces([Document("x" * 25, prompt="y" * 12)])
    assert [len(piece.ids) for piece in pieces] == [10, 10, 9]  # the first ten are prompt alone


def test_what_has_nothing_to_learn_gives_no_piece() -> None:
    assert encoder(end=None).pieces([Document("")]) == []


def test_equal_documents_are_on_the_same_side_and_one_in_twenty_is_held_out() -> None:
    texts = numbered(4000)
    held = sum(is_held_out(document) for document in texts)
    assert 140 < held < 260
    assert all(is_held_out(text) == is_held_out(Document(text.text)) for text in texts[:100])


def test_no_held_out_document_is_ever_learned() -> None:
    texts = numbered(600)
    held = {tuple(piece.ids) for piece in held_out_pieces(lambda: iter(texts), encoder(), 100_000)}
    learned = {
        tuple(piece.ids)
        for batch in islice(stream(texts).batches(Position(), 500), 40)
        for piece in batch.pieces
    }
    assert held
    assert len(held) + len(learned) == 600
    assert not held & learned


def test_the_held_out_part_is_as_long_as_asked() -> None:
    pieces = held_out_pieces(lambda: iter(numbered(5000)), encoder(), 200)
    rows = sum(piece.rows for piece in pieces)
    assert 200 <= rows < 250


def test_a_stream_goes_on_from_every_position_as_if_it_had_never_stopped() -> None:
    """Over windows and rounds; a short text is read again and again."""
    texts = numbered(600)
    whole = list(islice(stream(texts).batches(Position(), 300), 60))
    assert whole[-1].after.epoch >= 1
    for place in range(0, 59, 7):
        again = list(islice(stream(texts).batches(whole[place].after, 300), 59 - place))
        assert again == whole[place + 1 :]


def test_each_round_has_every_document_once_in_another_order() -> None:
    texts = numbered(100)
    pieces = [piece for batch in islice(stream(texts).batches(Position(), 1), 300) for piece in batch.pieces]
    size = sum(not is_held_out(document) for document in texts)
    first, second = pieces[:size], pieces[size : 2 * size]
    assert first != second
    assert sorted(first) == sorted(second)


def test_another_seed_is_another_order() -> None:
    orders = [next(stream(numbered(100), seed).batches(Position(), 500)) for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]


def test_an_empty_text_gives_no_batch() -> None:
    assert list(stream([]).batches(Position(), 10)) == []
