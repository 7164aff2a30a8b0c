"""A user's text file as rows of characters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mpsim import data
from mpsim.data import Dataset
from mpsim.data.own import read_text, remembered, text, text_digest
from mpsim.errors import MpsimError
from tests import mutations

#: 215 characters, with line breaks of both kinds and characters of one to four bytes.
TEXT = "Ein Größenwahn für 3 €,\r\nund 𝔵 ist kein y.\n" * 5


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "book.txt"
    path.write_bytes(TEXT.encode())
    return path


def characters(part: data.LabelledImages) -> tuple[str, list[str], list[str]]:
    """The alphabet's size as text, the rows and their labels, decoded by the sorted alphabet."""
    assert isinstance(part, Dataset)
    alphabet = sorted(set(TEXT))
    rows, labels = (["".join(alphabet[token] for token in row) for row in each] for each in (part.images, part.labels))
    return str(part.vocabulary), rows, labels


@pytest.mark.parametrize(("context", "share", "test"), [(10, 0.25, 5), (7, 0.01, 1), (64, None, 1), (1, 0.5, 107)])
def test_rows_are_consecutive_and_labels_the_next_characters(
    context: int, share: float | None, test: int, file: Path
) -> None:
    options = {"context": context, "test_share": share}
    training, last = (read_text(file, split, **options) for split in data.SPLITS)  # type: ignore[arg-type]
    count = (len(TEXT) - 1) // context
    assert (len(training), len(last)) == (count - test, test)
    size, rows, labels = characters(training)
    size_of_test, more_rows, more_labels = characters(last)
    assert size == size_of_test == str(len(set(TEXT)))
    assert "".join(rows + more_rows) == TEXT[: count * context]
    assert "".join(labels + more_labels) == TEXT[1 : count * context + 1]
    assert training.classes == len(set(TEXT)) and training.image_shape == (context,)


def test_a_text_is_found_by_its_tokens(file: Path, tmp_path: Path) -> None:
    usual = text_digest(file)
    other = tmp_path / "other.md"
    other.write_bytes(TEXT.encode())
    assert text_digest(other) == usual and data.digest("text", other) == data.digest("text", file)
    assert data.located(str(file)) == ("text", str(file)) and data.load("text", "test", file).classes > 20
    changed = {usual, text_digest(file, context=32), text_digest(file, test_share=0.5)}
    other.write_bytes(TEXT.replace("3", "y", 1).encode())
    assert len(changed | {text_digest(other)}) == 4


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        (b"", {}, "has 0 characters, i.e. 0 rows of 64"),
        (b"a" * 128, {}, "has 128 characters, i.e. 1 rows of 64, of which 1 are for the test"),
        (b"a" * 400 + b"\xff" + b"a", {}, "is not UTF-8 text: byte 400 is 0xff"),
        (TEXT.encode()[:-1] + b"\xc3", {}, "is not UTF-8 text"),
        (b"a" * 200, {"test_share": 1.0}, "a smaller test_share"),
        (b"a" * 200, {"context": 0}, "context must be a whole number from 1"),
        (b"a" * 200, {"test_share": 0.0}, "test_share must be a share above 0"),
    ],
)
def test_what_is_no_text_is_refused(content: bytes, options: dict[str, float], said: str, file: Path) -> None:
    file.write_bytes(content)
    with pytest.raises(MpsimError, match=said):
        read_text(file, **options)  # type: ignore[arg-type]


def test_damaged_texts(file: Path) -> None:
    """Each is read as Python reads it, or refused with its name. (2000 were tried once.)"""
    generator = np.random.default_rng(0)
    refused = 0
    for _ in range(100):
        content = mutations.of_bytes(TEXT.encode(), generator)
        file.write_bytes(content)
        remembered.forget()
        try:
            training = read_text(file, context=10)
        except MpsimError as error:
            refused += 1
            assert str(file) in str(error)
        else:
            assert training.classes == len(set(content.decode()))
    assert 20 < refused < 80


def test_memory_and_missing_files(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match="gone.txt does not exist; expected a file of UTF-8 text"):
        read_text(file.with_name("gone.txt"))
    with pytest.raises(FileNotFoundError, match="is not a file"):
        text_digest(file.parent)
    monkeypatch.setattr("mpsim.checks.machine_memory", lambda: 1000)
    with pytest.raises(MpsimError, match="this machine has 1,000; use a part of the text"):
        read_text(file, context=3)


def test_a_text_that_changes_while_it_is_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = text._read

    def read_and_append(*arguments: Any) -> Any:
        found = read(*arguments)
        file.write_bytes(file.read_bytes() + b"!")
        return found

    monkeypatch.setattr(text, "_read", read_and_append)
    with pytest.raises(MpsimError, match="changed while it was read"):
        text_digest(file)


def test_tokens_cannot_be_written_to(file: Path) -> None:
    training = read_text(file)
    assert isinstance(training, Dataset)
    with pytest.raises(ValueError, match="read-only"):
        training.images[0] = 0
    assert np.array_equal(training.images[:, 1:], training.labels[:, :-1])
