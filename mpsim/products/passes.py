"""How the products of a network are summed: in one way, or in others by pass and by layer (docs/semantics.md).

A layer multiplies up to three times in a training step: forward (activation times weight), for the gradient of its
input (gradient times weight), and for the gradient of its weight (activation times gradient).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from mpsim import checks
from mpsim.errors import UsageError, UsageTypeError
from mpsim.files import json_text
from mpsim.products import accumulators
from mpsim.products.accumulators import Accumulator, Summation, in_short
from mpsim.products.stages import Product
from mpsim.products.tensor_cores import accumulator_of
from mpsim.products.tensor_cores import described as described_summation

PASSES = ("forward", "input_gradient", "weight_gradient")
#: The passes, and a layer's sums that are not products, of which nothing is said unless they are named.
FIELDS = (*PASSES, "sums")
#: What an entry of a text may name: one of these, or both gradients.
_WORDS = {**{name: (name,) for name in FIELDS}, "backward": PASSES[1:]}
_LAYER = re.compile(r"\s*([^\s:;=(),]+)\s*:")
_WORD = re.compile(r"\s*(\w+)\s*=")
_DEFAULT = Accumulator()


class Passes(NamedTuple):
    """How the products of one layer are summed, by pass."""

    forward: Summation
    input_gradient: Summation
    weight_gradient: Summation


@dataclass(frozen=True)
class Accumulators:
    """How the products of a network are summed, by pass and by layer.

    Args:
        forward: of the outputs of layers; an Accumulator, a Product, or the text of one.
        input_gradient: of the gradients of layers' inputs.
        weight_gradient: of the gradients of layers' weights.
        layers: pattern -> what differs in the layers whose names match it (``fnmatch``: ``*``, ``?``, ``[...]``), an
            Accumulators without layers, or one summation for all passes. Of several patterns that match, the last one
            that says something of a pass decides.
        sums: of windows in average pooling, of a bias's gradient, and of the cross-entropy of classes over the batch;
            elements are left operands of products with 1.

    A pass that is None, and sums, are in mpsim's own order, and in a layer's entry as without the entry.

    Raises UsageError or UsageTypeError for what is not a summation, and for a pattern that the text form cannot hold.

    >>> Accumulators("hopper_float8_e4m3fn", layers={"conv1": Accumulator()}).of_layer("conv2").forward.kind
    'aligned'
    """

    forward: Summation | str | None = None
    input_gradient: Summation | str | None = None
    weight_gradient: Summation | str | None = None
    layers: Any = ()
    sums: Summation | str | None = None

    def __post_init__(self) -> None:
        for name in FIELDS:
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _summation(name, getattr(self, name)))
        given = self.layers.items() if isinstance(self.layers, Mapping) else self.layers
        object.__setattr__(self, "layers", tuple((_pattern(name), _of_entry(name, entry)) for name, entry in given))

    def of_layer(self, name: str) -> Passes:
        """The summations of the layer of that name."""
        found = dict.fromkeys(PASSES, _DEFAULT) | self._of_layer(name)
        return Passes(*(found[each] for each in PASSES))

    def sums_of_layer(self, name: str) -> Summation | None:
        """The order of that layer's sums that are not products; None for mpsim's own, REDUCTION.

        >>> Accumulators(layers={"fc": Accumulators(sums="chunk=8")}).sums_of_layer("fc").chunk
        8
        """
        return self._of_layer(name).get("sums")

    def _of_layer(self, name: str) -> dict[str, Summation]:
        found = _said(self)
        for pattern, entry in self.layers:
            found |= _said(entry) if fnmatchcase(name, pattern) else {}
        return found

    def says(self, layer: str) -> set[str]:
        """The passes of the layer, and "sums", of which something is said.

        >>> Accumulators(layers={"conv*": Accumulators(forward="exact")}).says("conv1")
        {'forward'}
        """
        return set(self._of_layer(layer))

    def over(self, other: Choice) -> Accumulators:
        """What this says, and of everything else what ``other`` says.

        >>> Accumulators(forward="exact").over(Accumulator(chunk=8)).of_layer("fc").weight_gradient.chunk
        8
        """
        base = other if isinstance(other, Accumulators) else _same_in(PASSES, other)
        own = Accumulators(**_said(self))
        return replace(base, layers=(*base.layers, ("*", own), *self.layers))

    @property
    def promises_bits(self) -> bool:
        """Whether two backends give the same bits."""
        return all(each.promises_bits for each in self._summations())

    def _summations(self) -> Iterator[Summation]:
        for entry in (self, *(entry for _, entry in self.layers)):
            yield from _said(entry).values()

    @property
    def simplest(self) -> Summation | Accumulators:
        """The same without what has no effect; one summation where all passes of all layers have the same.

        >>> Accumulators("exact", "exact", "exact", {"conv*": "exact"}).simplest == Accumulator(kind="exact")
        True
        """
        general = {name: getattr(self, name) or _DEFAULT for name in PASSES} | {"sums": self.sums}
        layers: list[tuple[str, Accumulators]] = []
        for position, (pattern, entry) in enumerate(self.layers):
            same_later = [later for other, later in self.layers[position + 1 :] if other == pattern]
            said = {}
            for name in FIELDS:
                value = getattr(entry, name)
                again = any(getattr(later, name) is not None for later in same_later)
                earlier = any(getattr(each, name) is not None and _may_meet(other, pattern) for other, each in layers)
                if value is not None and not again and (earlier or value != general[name]):
                    said[name] = value
            if said:
                layers.append((pattern, Accumulators(**said)))
        if not layers and self.sums is None and len({general[name] for name in PASSES}) == 1:
            return general["forward"]
        return Accumulators(**general, layers=layers)

    def check_layers(self, multiplying: list[str], adding: list[str]) -> None:
        """Raises UsageError for a pattern that matches none of the names of layers that multiply or, if only sums are
        said of it, that add."""
        for pattern, entry in self.layers:
            only_adds = set(_said(entry)) == {"sums"}
            names = adding if only_adds else multiplying
            if not any(fnmatchcase(name, pattern) for name in names):
                near = checks.did_you_mean(checks.near(pattern, names))
                what = "has a bias, averages windows or is a loss of classes" if only_adds else "multiplies"
                raise UsageError(
                    f"no layer that {what} is named {pattern!r}{near or '.'} "
                    f"Layers: {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}",
                    "accumulator",
                )


#: What may be said of all products of a network.
Choice = Summation | Accumulators


def _summation(name: str, value: Any) -> Summation:
    summation = accumulator_of(value) if isinstance(value, str) else value
    if isinstance(summation, Product):
        if scales := {*summation.scales_of_totals, *summation.scales_of_blocks}:
            names = ", ".join(sorted(scales))
            raise UsageError(
                f"{name} multiplies by scales ({names}), which a layer does not have; leave them out", name
            )
        return in_short(summation)
    expected = "an Accumulator, such as Accumulator(chunk=64), or its text, such as 'chunk=64' or 'hopper_float16'"
    return checks.instance(name, summation, Accumulator, expected)


def _said(entry: Accumulators) -> dict[str, Summation]:
    return {name: value for name in FIELDS if (value := getattr(entry, name)) is not None}


def _same_in(passes: Sequence[str], summation: Summation) -> Accumulators:
    return Accumulators(**dict.fromkeys(passes, summation))


def _pattern(name: object) -> str:
    if not isinstance(name, str):
        raise UsageTypeError(f"a layer's name or pattern is text, such as 'conv*', got {checks.shown(name)}", "layers")
    if not _LAYER.fullmatch(f"{name}:"):
        raise UsageError(f"a layer's name or pattern has no space, colon, or any of ';=(),'; got {name!r}", "layers")
    return name


def _may_meet(one: str, other: str) -> bool:
    """Whether a layer's name may match both patterns; of two patterns with wildcards it is not known."""
    if not set("*?[") & set(other):
        return fnmatchcase(other, one)
    return bool(set("*?[") & set(one)) or fnmatchcase(one, other)


def _of_entry(name: str, entry: object) -> Accumulators:
    if not isinstance(entry, Accumulators):
        return _same_in(PASSES, _summation(f"layers[{name!r}]", entry))
    if entry.layers:
        raise UsageError(f"layer {name!r} has layers inside it; give all patterns side by side", "layers")
    return entry


def as_accumulators(given: Choice | str) -> Choice:
    """What is said of a network's products in its simplest form; a text is read by ``accumulators_of``.

    Raises UsageError or UsageTypeError for anything else.

    >>> as_accumulators("forward=exact;backward=exact") == Accumulator(kind="exact")
    True
    """
    if isinstance(given, str):
        return accumulators_of(given)
    return given.simplest if isinstance(given, Accumulators) else _summation("accumulator", given)


def accumulators_of(text: str) -> Choice:
    """What a text says of a network's products: entries ``[LAYER:][PASS=]SUMMATION``, separated by semicolons.

    A SUMMATION is a text of ``accumulator_of``. PASS is forward, input_gradient, weight_gradient, or backward, which
    stands for both gradients; without it the entry holds for all three. PASS may also be sums. LAYER is a layer's name
    or a pattern; without it the entry holds for the layers that no other entry names. Of two entries that hold for a
    product, the later one counts. A text with a brace first is JSON of ``to_dict``. Raises UsageError for others.

    >>> accumulators_of("hopper_float16;backward=chunk=64;conv1:exact").of_layer("conv2").weight_gradient.chunk
    64
    """
    return entries_of(text).simplest


def entries_of(text: str) -> Accumulators:
    """Returns what a text, as for ``accumulators_of``, says alone: None for a pass that no entry names.

    >>> entries_of("conv1:forward=exact").forward is None
    True
    """
    if text.lstrip().startswith("{"):
        return _of_json(text)
    general: dict[str, Summation] = {}
    layers: list[tuple[str, dict[str, Summation]]] = []
    for entry in filter(str.strip, text.split(";")):
        layer, summation = _split(_LAYER, entry)
        word, rest = _split(_WORD, summation)
        passes = _WORDS.get(word, PASSES)
        if word not in _WORDS:
            _refuse_near(word, entry)
            rest = summation
        given = dict.fromkeys(passes, accumulator_of(rest.strip()))
        if not layer:
            general |= given
        elif layers and layers[-1][0] == layer:
            layers[-1][1].update(given)
        else:
            layers.append((layer, given))
    return Accumulators(**general, layers=[(name, Accumulators(**given)) for name, given in layers])


def _of_json(text: str) -> Accumulators:
    try:
        found = json_text.decoded(text)
    except UsageError as error:
        raise UsageError(f"accumulator: a text that begins with a brace is JSON: {error}") from None
    return _entries_of_dict(found)


def _split(form: re.Pattern[str], text: str) -> tuple[str, str]:
    """What the form finds at the beginning of the text, or "", and the rest of the text."""
    found = form.match(text)
    return (found[1], text[found.end() :]) if found else ("", text)


def _refuse_near(word: str, entry: str) -> None:
    known = [field.name for field in fields(Accumulator)]
    if word and word not in known and (near := checks.near(word, [*_WORDS, *known])) and near[0] in _WORDS:
        raise UsageError(f"accumulator {entry.strip()!r}: there is no pass {word!r}{checks.did_you_mean(near[:1])}")


def described(choice: Choice) -> str:
    """The text that ``accumulators_of`` reads back.

    >>> described(accumulators_of("forward=exact; conv1: backward=blas"))
    'forward=exact;backward=sequential,format=float32,chunk=256,fma=true;conv1:backward=blas'
    """
    if not isinstance(choice, Accumulators):
        return described_summation(choice)
    entries = [*_entries("", choice)]
    for pattern, entry in choice.layers:
        entries += _entries(f"{pattern}:", entry)
    return ";".join(entries)


def _entries(layer: str, entry: Accumulators) -> Iterator[str]:
    said = {name: described_summation(value) for name, value in _said(entry).items()}
    sums = {"sums": said.pop("sums")} if "sums" in said else {}
    if len(said) == 3 and len(set(said.values())) == 1:
        yield f"{layer}{said['forward']}"
        said = {}
    if set(PASSES[1:]) <= set(said) and said["input_gradient"] == said["weight_gradient"]:
        said["backward"] = said.pop("input_gradient")
        del said["weight_gradient"]
    yield from (f"{layer}{word}={text}" for word, text in (said | sums).items())


def to_dict(choice: Choice) -> dict[str, object]:
    """As JSON values: those of ``mpsim.products.accumulators.to_dict``, by pass and by layer where these differ."""
    if not isinstance(choice, Accumulators):
        return accumulators.to_dict(choice)
    return {
        **_by_pass(choice),
        "layers": [{"layer": pattern, **_by_pass(entry)} for pattern, entry in choice.layers],
    }


def _by_pass(entry: Accumulators) -> dict[str, object]:
    return {name: accumulators.to_dict(value) for name, value in _said(entry).items()}


def from_dict(found: Mapping[str, object]) -> Choice:
    """What ``to_dict`` wrote; a summation may also be a text. Raises UsageError for anything else.

    >>> from_dict(to_dict(accumulators_of("exact;fc:forward=chunk=64"))) == accumulators_of("exact;fc:forward=chunk=64")
    True
    """
    return _entries_of_dict(found).simplest


def _entries_of_dict(found: Mapping[str, object]) -> Accumulators:
    if not {*_WORDS, "layers"} & set(found):
        return _same_in(PASSES, accumulators.from_dict(found))
    layers = found.get("layers", [])
    if not isinstance(layers, list) or not all(isinstance(each, Mapping) and "layer" in each for each in layers):
        raise UsageError("layers of an accumulator in JSON are a list of objects, each with a layer's name as 'layer'")
    entries = [(each["layer"], _of_passes({k: v for k, v in each.items() if k != "layer"})) for each in layers]
    return replace(_of_passes({k: v for k, v in found.items() if k != "layers"}), layers=entries)


def _of_passes(found: Mapping[str, Any]) -> Accumulators:
    if unknown := set(found) - set(_WORDS):
        raise UsageError(f"an accumulator in JSON is by {', '.join(_WORDS)} and layers, not {', '.join(unknown)}")
    if wrong := [each for each in found.values() if not isinstance(each, str | Mapping)]:
        raise UsageError(f"an accumulator in JSON is a text or an object, not {checks.shown(wrong[0])}")
    read = {word: each if isinstance(each, str) else accumulators.from_dict(each) for word, each in found.items()}
    return Accumulators(**{name: each for word, each in read.items() for name in _WORDS[word]})
