"""The embedded text: its rows, and its entropy by two other ways of computing it."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from math import log

import numpy as np
import pytest

from mpsim import data
from mpsim.data.grammar import ALPHABET, CONTEXTS, entropy, following, grammar
from mpsim.errors import UsageError


def text_of(tokens: np.ndarray) -> str:
    return "".join(ALPHABET[token] for token in tokens)


def surprise(text: str) -> list[float]:
    """-log of the probability of each character after the first."""
    state, found = ("sentence", ""), []
    for character in text:
        ((_, probability, state),) = [each for each in following(state) if each[0] == character]
        found.append(-log(probability))
    return found[1:]


def test_weights_are_exact_in_bits() -> None:
    for context, words in CONTEXTS.items():
        total = sum(word.weight for word in words)
        assert total & (total - 1) == 0, context
        assert not any(a.text.startswith(b.text) for a in words for b in words if a != b), context
        assert all(word.then in CONTEXTS and len(word.text) >= 2 for word in words)


def test_rows_are_sentences_whose_labels_come_next() -> None:
    rows = grammar("train", size=300)
    assert rows.images.shape == rows.labels.shape == (300, 64) and rows.vocabulary == rows.classes == len(ALPHABET)
    assert np.array_equal(rows.images[:, 1:], rows.labels[:, :-1])
    for row, labels in zip(rows.images, rows.labels, strict=True):
        surprise(text_of(row) + ALPHABET[labels[-1]])  # raises for what the grammar does not write
    text = text_of(rows.images.reshape(-1))
    assert "cats that see the hens " in text or "cat that sees" in text
    assert "\n" in text and "a dogs" not in text and "two dog " not in text


def test_a_row_depends_on_its_number_and_split_alone() -> None:
    few, many, other = grammar("train", size=3), grammar("train", size=9), grammar("test", size=3)
    assert np.array_equal(few.images, many.images[:3]) and not np.array_equal(few.images, other.images)
    assert not np.array_equal(few.images, grammar("train", size=3, seed=1).images)
    longer = grammar("train", size=3, length=65)
    assert longer.images.shape == (3, 65)


def enumerated(length: int) -> float:
    """The entropy per label from the probabilities of all texts of one length, without states: H(all) - H(first)."""
    waiting = [("sentence", "", Fraction(1))]
    texts: Counter[str] = Counter()
    while waiting:
        context, text, probability = waiting.pop()
        if len(text) > length:
            texts[text[: length + 1]] += probability
            continue
        total = sum(word.weight for word in CONTEXTS[context])
        waiting += [
            (word.then, text + word.text, probability * Fraction(word.weight, total)) for word in CONTEXTS[context]
        ]
    first: Counter[str] = Counter()
    for text, probability in texts.items():
        first[text[0]] += probability

    def bits(found: Counter[str]) -> float:
        return -sum(float(p) * log(p) for p in found.values())

    return (bits(texts) - bits(first)) / length


@pytest.mark.parametrize("length", [1, 5, 12, 21])
def test_entropy_is_that_of_all_texts(length: int) -> None:
    assert entropy(length) == pytest.approx(enumerated(length), rel=1e-12)


def test_entropy_of_long_rows_is_that_of_a_sentence_over_its_length() -> None:
    """H(sentence) / E[length]. Choices in bits: determiner 3/2, noun 3 after "the", else 2, so 2.5 in the mean; a word
    after the subject: 1/4 log 4 + 4 * 3/16 log(16/3); after a clause log 4. Lengths: determiner and space 3.5, noun and
    what follows it 4.5."""
    phrase, size = 1.5 + 0.5 * 3 + 0.5 * 2, 0.5 * 4 + 0.25 * 2 + 0.25 * 4 + 4 + 0.5
    object_share = 0.5  # of the verbs of a main clause
    verb = 0.25 * 2 + 0.75 * np.log2(16 / 3)
    clause = 1 + phrase + 2  # its verb, its object, the verb after it
    bits = phrase + verb + 0.25 * clause + object_share * phrase
    # "runs\n" and "naps\n" or "run\n", "nap\n"; "sees ", "likes " or "see ", "like "; half of the subjects are plural
    alone, other = 4.5, 5.0
    length = size + 0.25 * (5 + other + size) + (alone + other) / 2 + object_share * size
    assert entropy(4000) == pytest.approx(bits * log(2) / length, rel=2e-3)


def test_a_perfect_predictor_has_this_loss_on_the_rows() -> None:
    for split, size in (("train", 1000), ("test", None)):
        rows = grammar(split, size=size)
        losses = [
            surprise(text_of(row) + ALPHABET[last]) for row, last in zip(rows.images, rows.labels[:, -1], strict=True)
        ]
        per_row = np.mean(losses, axis=1)
        assert abs(per_row.mean() - entropy()) < 4 * per_row.std() / np.sqrt(len(per_row))


def test_by_name() -> None:
    rows = data.load("grammar", "test")
    assert (len(rows), rows.image_shape, data.vocabulary_of(rows)) == (1024, (64,), 20)
    assert data.vocabulary_of(data.load("digits", "test")) is None
    assert data.digest("grammar") == data.digest("grammar") != data.digest("digits")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"split": "all"}, "unknown split"),
        ({"size": 0}, "size must be"),
        ({"length": 0}, "length must be"),
        ({"seed": -1}, "seed must be"),
    ],
)
def test_bad_requests(options: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        grammar(**options)


@pytest.mark.parametrize(
    ("tokens", "labels", "vocabulary", "said"),
    [
        (np.zeros((2, 3), np.float32), np.zeros(2, int), 4, r"tokens must be integers \(N, T\), got float32"),
        (np.zeros((2, 3, 1), int), np.zeros(2, int), 4, r"tokens must be integers \(N, T\), got int64 \(2, 3, 1\)"),
        (np.full((2, 3), 4), np.zeros(2, int), 4, "tokens must be from 0 to 3, got 4 to 4"),
        (np.zeros((2, 3), int), np.zeros((2, 2), int), 4, r"labels must be integers \(2,\) or \(2, 3\)"),
        (np.zeros((2, 3), int), np.zeros(2, int), 0, "vocabulary must be"),
        (np.zeros((2, 3), int), np.zeros(2, int), None, r"images must be float32 \(N, C, H, W\)"),
    ],
)
def test_tokens_that_do_not_fit(tokens: np.ndarray, labels: np.ndarray, vocabulary: int, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        data.Dataset(tokens, labels, 4, "bad", vocabulary=vocabulary)


def test_tokens_have_no_augmentation_but_batches_and_digests() -> None:
    rows = data.Dataset(np.arange(12).reshape(4, 3), np.arange(4), 4, "rows", vocabulary=12)
    batches = list(data.DataLoader(rows, 2, shuffle=False))
    assert [(tokens.tolist(), labels.tolist()) for tokens, labels in batches] == [
        ([[0, 1, 2], [3, 4, 5]], [0, 1]),
        ([[6, 7, 8], [9, 10, 11]], [2, 3]),
    ]
    assert batches[0][0].dtype == batches[0][1].dtype == np.int64
    with pytest.raises(UsageError, match="has no images to augment"):
        next(data.DataLoader(rows, 2, augmentation=data.Augmentation()).epoch(0))
    more = data.Dataset(rows.images, rows.labels, 4, "rows", vocabulary=13)
    assert rows.digest() != more.digest() and len(rows.first(2)) == 2 and rows.first(2).vocabulary == 12
