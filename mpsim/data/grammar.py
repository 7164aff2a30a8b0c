"""Writes sentences of a small grammar, a text whose entropy per character is known, for machines without data.

A sentence has a subject, perhaps with a clause, and a verb, perhaps with an object: ``two cats that see a hen run``.
Verbs agree with their subject, also after a clause. The weights of the words that may follow add up to a power of two,
so the leading bits of a random word choose one with exactly its probability.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from math import fsum, log
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from mpsim import checks
from mpsim.data.dataset import SPLITS, Dataset, check_split
from mpsim.data.digests import digest_of_splits
from mpsim.kernels.philox import Stream, random_bits
from mpsim.process import in_default_environment

#: The default numbers of rows, and of characters that a row predicts.
SIZES, LENGTH = {"train": 8192, "test": 1024}, 64
#: The quantity of the random words, beside those of mpsim.data.synthetic.
QUANTITY = 32

_NOUNS = ("cat", "dog", "hen", "ram")
_ALONE, _WITH_OBJECT = ("run", "nap"), ("see", "like")


class Word(NamedTuple):
    """A word with the space or line break behind it, its weight, and the context after it."""

    text: str
    weight: int
    then: str


def _number(noun_or_verb: str, s: bool) -> str:
    return noun_or_verb + "s" if s else noun_or_verb


def _contexts() -> Iterator[tuple[str, list[Word]]]:
    """Yields each context with its words. "one" and "two" are the numbers of the subject."""
    for place, end, then in (("subject", " ", "{}"), ("object", "\n", "sentence"), ("clause one", " ", "verb one"),
                             ("clause two", " ", "verb two")):  # fmt: skip
        nouns = {
            number: [Word(_number(noun, number == "two") + end, 1, then.format(number)) for noun in _NOUNS]
            for number in ("one", "two")
        }
        yield f"{place} noun", nouns["one"] + nouns["two"]
        yield f"{place} one", nouns["one"]
        yield f"{place} two", nouns["two"]
        determiners = [("the ", 2, "noun"), ("a ", 1, "one"), ("two ", 1, "two")]
        start = "sentence" if place == "subject" else place
        yield start, [Word(text, weight, f"{place} {number}") for text, weight, number in determiners]
    for number in ("one", "two"):
        alone = [_number(verb, number == "one") + "\n" for verb in _ALONE]
        others = [_number(verb, number == "one") + " " for verb in _WITH_OBJECT]
        verbs = [Word(verb, 3, "sentence") for verb in alone] + [Word(verb, 3, "object") for verb in others]
        yield number, [Word("that ", 4, f"that {number}"), *verbs]
        yield f"that {number}", [Word(verb, 1, f"clause {number}") for verb in others]
        yield f"verb {number}", [word._replace(weight=1) for word in verbs]


#: Context -> its words.
CONTEXTS: Mapping[str, list[Word]] = MappingProxyType(dict(_contexts()))
#: Context -> its words, each as often as its weight.
_BY_BITS = {context: [word for word in words for _ in range(word.weight)] for context, words in CONTEXTS.items()}
#: The characters by token.
ALPHABET = "".join(sorted({character for words in CONTEXTS.values() for word in words for character in word.text}))


@in_default_environment
def grammar(split: str = "train", size: int | None = None, length: int = LENGTH, seed: int = 0) -> Dataset:
    """Writes rows of text, whose labels are the next characters.

    Each row starts with a sentence. Row i of a split depends only on (seed, split, i, length).

    Args:
        split: "train" or "test".
        size: The number of rows. The default is 8192 for "train" and 1024 for "test".
        length: The number of characters of a row. One more is written, as the label of the last one.
        seed: The seed.

    Returns:
        Tokens int64 (size, length) and labels int64 (size, length), indices into ``ALPHABET``.

    Raises:
        ValueError: An argument is out of range.

    >>> text = grammar("test", size=2, length=40)
    >>> text
    Dataset('grammar': 2 rows of 40 tokens, 20 classes)
    >>> "".join(ALPHABET[token] for token in text.images[1])
    'the dog that sees a cat sees a hen\\ntwo h'
    """
    check_split(split)
    count = SIZES[split] if size is None else checks.whole("size", size, least=1, most=1 << 24)
    length = checks.whole("length", length, least=1, most=1 << 12)
    checks.seed("seed", seed)
    stream = Stream(seed, "synthetic_data", tensor=QUANTITY, step=SPLITS.index(split))
    most = length // 2 + 1  # a word has at least two characters
    draws = random_bits(stream, count * most).reshape(count, most)
    place = {character: token for token, character in enumerate(ALPHABET)}
    rows = np.array([[place[character] for character in _row(row, length + 1)] for row in draws.tolist()])
    return Dataset(rows[:, :-1], rows[:, 1:], len(ALPHABET), "grammar", vocabulary=len(ALPHABET))


def _row(draws: list[int], length: int) -> str:
    """Returns the text of random words of 32 bits, of which each chooses a word."""
    context, text = "sentence", ""
    for draw in draws:
        words = _BY_BITS[context]
        word = words[draw * len(words) >> 32]
        context, text = word.then, text + word.text
        if len(text) >= length:
            break
    return text[:length]


@cache
def grammar_digest() -> str:
    """Computes the SHA-256 (hex) of both splits."""
    return digest_of_splits(*(grammar(split) for split in SPLITS))


#: What was written since the last word began, after a context.
State = tuple[str, str]


@cache
def following(state: State) -> tuple[tuple[str, float, State], ...]:
    """Returns each character that may follow, with its probability and the state after it.

    What was written determines the state, because no word of a context begins with another one of it.

    >>> [(character, probability) for character, probability, _ in following(("sentence", "t"))]
    [('h', 0.6666666666666666), ('w', 0.3333333333333333)]
    """
    context, written = state
    words = [word for word in CONTEXTS[context] if word.text.startswith(written)]
    weights: Counter[str] = Counter()
    for word in words:
        weights[word.text[len(written)]] += word.weight
    ended = {word.text: (word.then, "") for word in words}
    return tuple(
        (character, weight / weights.total(), ended.get(written + character, (context, written + character)))
        for character, weight in weights.items()
    )


def entropy(length: int = LENGTH) -> float:
    """Computes the expected loss of a perfect predictor of ``grammar``'s labels, in nats per character.

    It is the mean over the labels of a row of the entropy of the label given all characters before it. These determine
    the state of the grammar, so the entropy is a sum over the states, with their probabilities at each place.

    Args:
        length: The number of labels of a row.

    >>> round(entropy(64), 4)
    0.3316
    """
    length = checks.whole("length", length, least=1, most=1 << 12)
    states, terms = {("sentence", ""): 1.0}, []
    for place in range(length + 1):
        after: Counter[State] = Counter()
        for state, probability in states.items():
            for _, share, then in following(state):
                after[then] += probability * share  # type: ignore[assignment]
                if place:  # the first character of a row is not a label
                    terms.append(-probability * share * log(share))
        states = dict(after)
    return fsum(terms) / length
