"""Damaged copies of good inputs: what runs where Atheris is not installed, and in the normal tests.

It knows nothing of the code under test: no coverage leads it, only the corpus does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

# Ends of ranges, signs, lengths that lie, delimiters of every language spoken here.
_BYTES = (0, 1, 0x7F, 0x80, 0xFF, *b'"{}[](),:/\\+#$&*?!<-=.\n\t 09aZ')
_WORDS = (
    *(b"\xff\xff", b"\x00\x00", b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", b"\x80\x00\x00\x00"),
    *(b"\xcf" + b"\xff" * 8, b"\xcb\x7f\xf8" + bytes(6), b"\xc1", b"\xdd\xff\xff\xff\xff"),  # msgpack
    *(b"\xc6\xff\xff\xff\xff", b"\x00\x00\x80\x7f", b"\x00\x00\xc0\x7f"),  # its blobs; float infinity, NaN
    *(b"\xed\xa0\x80", b"\\ud800", b"\xef\xbf\xbf"),  # half a surrogate pair, no character
    *(b"NaN", b"1e999", b"null", b"true", b"-1", b"&a", b"*a", b"<<: ", b"!!"),
    *(b"$share/", b"../", b"\xff\xff\xff\x7f", b"\x80\x80\x80\x01"),  # MQTT's longest lengths
)
_MOST_REPEATS = 600  # enough to pass every limit on nesting


def mutations(corpus: list[bytes], seed: int, max_bytes: int) -> Iterator[bytes]:
    """Endless damaged inputs; the same ones for the same corpus and seed."""
    random = Random(seed)
    while True:
        yield mutated(random.choice(corpus), random, corpus)[:max_bytes]


def mutated(data: bytes, random: Random, corpus: list[bytes]) -> bytes:
    """One damaged copy."""
    damaged = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 3, 5))):
        random.choice(_WAYS)(damaged, random, corpus)
    return bytes(damaged)


def _flip(data: bytearray, random: Random, _: list[bytes]) -> None:
    if data:
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)


def _set(data: bytearray, random: Random, _: list[bytes]) -> None:
    if data:
        data[random.randrange(len(data))] = random.choice(_BYTES)


def _insert(data: bytearray, random: Random, _: list[bytes]) -> None:
    at = random.randint(0, len(data))
    data[at:at] = random.choice(_WORDS) if random.random() < 0.5 else random.randbytes(random.randint(1, 8))


def _overwrite(data: bytearray, random: Random, _: list[bytes]) -> None:
    word, at = random.choice(_WORDS), random.randint(0, len(data))
    data[at : at + len(word)] = word


def _cut(data: bytearray, random: Random, _: list[bytes]) -> None:
    start = random.randint(0, len(data))
    del data[start : start + random.choice((1, 1, 2, 4, 16, len(data)))]


def _repeat(data: bytearray, random: Random, _: list[bytes]) -> None:
    start = random.randint(0, len(data))
    piece = bytes(data[start : start + random.choice((1, 2, 4, 16))])
    data[start:start] = piece * random.choice((1, 1, 2, 10, _MOST_REPEATS))


def _splice(data: bytearray, random: Random, corpus: list[bytes]) -> None:
    other = random.choice(corpus)
    start = random.randint(0, len(other))
    at = random.randint(0, len(data))
    data[at : at + random.choice((0, 4, len(data)))] = other[
        start : start + random.choice((2, 8, len(other)))
    ]


_WAYS: tuple[Callable[[bytearray, Random, list[bytes]], None], ...] = (
    _flip,
    _set,
    _insert,
    _overwrite,
    _cut,
    _repeat,
    _splice,
)
