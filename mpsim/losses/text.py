"""Reads and writes losses as text, and finds those of a user's files."""

from __future__ import annotations

import hashlib

from mpsim import checks
from mpsim.errors import UsageError, UsageTypeError
from mpsim.files.descriptions import Language
from mpsim.losses.kinds import BCE, MSE, CrossEntropy, Custom, Loss
from mpsim.process import in_default_environment
from mpsim.user_code import FileFunction, file_function

_LANGUAGE = Language(
    "loss", {"cross_entropy": CrossEntropy, "mse": MSE, "bce": BCE}, "cross_entropy(smoothing=0.1)"
)  # fmt: skip
#: What a description of one's own loss begins with, in files.
OWN = "custom "


@in_default_environment
def loss_of(given: object) -> Loss:
    """Returns a loss from its text or from a function.

    Args:
        given: A loss, a text (the name of a loss, with arguments in parentheses if there are any), or a function of
            outputs and labels.

    Raises:
        UsageError: The text is not that of a loss.
        UsageTypeError: It is something else.

    >>> loss_of("bce(positive=(1, 2))"), described(loss_of("mse"))
    (BCE(positive=(1.0, 2.0)), 'mse')
    """
    if isinstance(given, Loss):
        return given
    if callable(given):
        return Custom(given)
    if not isinstance(given, str):
        raise UsageTypeError(f"loss must be a loss, its text or a function, got {checks.shown(given)}", "loss")
    if given.startswith(OWN):
        raise UsageError(
            f"loss {given.removeprefix(OWN)!r} is a function of one's own; pass it as loss= (--loss)", "loss"
        )
    text = given.strip()
    loss: object = _LANGUAGE.read(f"{text}()" if text in _LANGUAGE.stages else text)
    if not isinstance(loss, Loss):
        known = ", ".join(_LANGUAGE.stages)
        raise UsageError(f"unknown loss {given!r}. Known: {known}, e.g. {_LANGUAGE.example}", "loss")
    return loss


def file_of(text: str) -> FileFunction | None:
    """Returns the file that a loss's text names, such as ``my_loss.py:hinge``, or None for another text."""
    checks.instance("loss", text, str, f"the text of a loss, such as {_LANGUAGE.example}, or FILE.py:FUNCTION")
    return file_function(text, "my_loss", "computes the loss of outputs and labels")


def file_hash(text: str) -> str | None:
    """Returns the SHA-256 (hex) of the file that a loss's text names, or None for another text."""
    file = file_of(text)
    return None if file is None else hashlib.sha256(file.read()).hexdigest()


def loss_named(text: str) -> Loss:
    """Returns a loss from its text (``loss_of``), or the function of a Python file, which is run.

    Raises:
        UsageError: The text is not that of a loss, or the file or function is missing or fails.

    >>> loss_named("mse")
    MSE()
    """
    file = file_of(text)
    return loss_of(text) if file is None else Custom(file.load(), file.label)


def described(loss: Loss) -> str:
    """Returns the text of a loss, which ``loss_of`` reads. For a function it is only a description.

    >>> described(CrossEntropy(0.1, weights=(1, 2)))
    'cross_entropy(0.1, (1.0, 2.0))'
    """
    return f"{OWN}{loss.name}" if isinstance(loss, Custom) else _LANGUAGE.write(loss).removesuffix("()")
