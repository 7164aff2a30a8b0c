"""How products are summed by pass and by layer: which entry counts, what is the same, text and JSON."""

from __future__ import annotations

import json

import pytest

from mpsim import Accumulator
from mpsim.errors import UsageError, UsageTypeError
from mpsim.files.whole import text_or_file
from mpsim.kernels import bind
from mpsim.products.passes import (
    Accumulators,
    Passes,
    accumulators_of,
    as_accumulators,
    described,
    from_dict,
    to_dict,
)
from mpsim.products.stages import Bias, Operand, Parts, Product, Scale
from mpsim.products.tensor_cores import accumulator_of
from mpsim.products.text import product_of
from mpsim.validate import validate_dot

DEFAULT, EXACT, CHUNKS = Accumulator(), Accumulator(kind="exact"), Accumulator(chunk=64)
HOPPER = accumulator_of("hopper_float16")
MIXED = accumulator_of("product(operand(float8_e4m3fn, truncate), operand(float8_e5m2, truncate), order=rising())")


@pytest.mark.parametrize(
    ("text", "layer", "expected"),
    [
        ("exact", "conv1", (EXACT, EXACT, EXACT)),
        ("forward=exact", "conv1", (EXACT, DEFAULT, DEFAULT)),
        ("input_gradient=exact", "conv1", (DEFAULT, EXACT, DEFAULT)),
        ("weight_gradient=exact", "conv1", (DEFAULT, DEFAULT, EXACT)),
        ("backward=exact", "conv1", (DEFAULT, EXACT, EXACT)),
        ("forward=hopper_float16;backward=chunk=64", "fc", (HOPPER, CHUNKS, CHUNKS)),
        ("exact; weight_gradient = chunk=64", "fc", (EXACT, EXACT, CHUNKS)),
        ("exact;conv1:chunk=64", "fc", (EXACT, EXACT, EXACT)),
        ("exact;conv1:chunk=64", "conv1", (CHUNKS, CHUNKS, CHUNKS)),
        ("conv1:chunk=64;exact", "conv1", (CHUNKS, CHUNKS, CHUNKS)),
        ("exact;conv1:forward=chunk=64", "conv1", (CHUNKS, EXACT, EXACT)),
        ("exact;conv*:backward=chunk=64;conv1:forward=hopper_float16", "conv1", (HOPPER, CHUNKS, CHUNKS)),
        ("exact;conv*:chunk=64;conv1:forward=hopper_float16;", "conv1", (HOPPER, CHUNKS, CHUNKS)),
        ("exact;conv1:forward=hopper_float16;conv*:chunk=64", "conv1", (CHUNKS, CHUNKS, CHUNKS)),
        ("layer?.[01].*: exact", "layer1.0.conv2", (EXACT, EXACT, EXACT)),
        ("layer?.[01].*: exact", "layer1.2.conv2", (DEFAULT, DEFAULT, DEFAULT)),
        ("forward=groups(lanes(8), rising(), folding());fc:kind=exact", "fc", (EXACT, EXACT, EXACT)),
    ],
)
def test_which_entry_counts(text, layer, expected):
    found = accumulators_of(text)
    passes = found.of_layer(layer) if isinstance(found, Accumulators) else Passes(found, found, found)
    assert passes == expected


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("forward=exact;backward=exact", "exact"),
        ("exact;exact", "exact"),
        ("chunk=256", ""),
        ("forward=chunk=256", ""),
        ("backward=exact;forward=chunk=64", "forward=chunk=64;input_gradient=exact;weight_gradient=exact"),
        ("exact;conv1:exact", "exact"),
        ("exact;conv1:forward=chunk=64;conv1:forward=exact", "exact"),
        ("conv1:forward=exact;conv1:backward=exact", "conv1:exact"),
        ("fc:chunk=64;conv1:exact;fc:exact", "conv1:exact;fc:exact"),
        ("forward=product(order=groups(blocks(64), rising(), rising(start=first)))", "forward=chunk=64"),
    ],
)
def test_what_is_the_same_is_written_alike(text, same):
    """Runs are found by this text."""
    assert described(accumulators_of(text)) == described(accumulators_of(same))
    assert accumulators_of(text) == accumulators_of(same)


@pytest.mark.parametrize(
    "text",
    [
        "forward=exact;conv*:chunk=64;conv1:forward=exact",  # the second entry takes conv1 back from the first
        "exact;conv1:chunk=64",
        "exact;conv1:forward=chunk=64",
        "forward=exact",
        "backward=exact",
        "input_gradient=exact",
    ],
)
def test_what_has_an_effect_stays(text):
    found = accumulators_of(text)
    assert isinstance(found, Accumulators)
    assert accumulators_of(described(found)) == found == from_dict(json.loads(json.dumps(to_dict(found))))
    assert accumulators_of(json.dumps(to_dict(found))) == found == as_accumulators(found)
    assert found != accumulators_of("exact")
    assert all(found.of_layer(name) == accumulators_of(text).of_layer(name) for name in ("conv1", "conv2", "fc"))


def test_an_entry_that_takes_a_layer_back_stays():
    found = accumulators_of("forward=exact;conv*:chunk=64;conv1:forward=exact")
    assert found.of_layer("conv1") == (EXACT, CHUNKS, CHUNKS) and found.of_layer("conv2") == (CHUNKS, CHUNKS, CHUNKS)


def test_a_choice_in_python_is_that_of_the_text():
    made = Accumulators("hopper_float16", layers={"conv1": EXACT, "fc": Accumulators(weight_gradient=Product())})
    assert as_accumulators(made) == accumulators_of("forward=hopper_float16;conv1:exact")
    assert as_accumulators("exact") == as_accumulators(Product(order=EXACT.product.order)) == EXACT
    assert not as_accumulators("fc:backward=blas").promises_bits and as_accumulators(made).promises_bits


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("forwards=exact", "there is no pass 'forwards'; did you mean forward?"),
        ("conv1:weigth_gradient=exact", "there is no pass 'weigth_gradient'; did you mean weight_gradient?"),
        ("conv1:lanes=8", "'lanes' is not a field"),
        ("forward=up()", "up"),
        (
            "conv1:forward=product(epilogue=(scale(left), bias()))",
            "forward multiplies by scales .left., which a layer does",
        ),
        ("conv1:rising", r"unknown accumulator .rising.; did you mean rising\(\)\?"),
        ("forward=ampere_mxf4", "did you mean .*; or an instruction: "),
        ("con v1:exact", "unknown accumulator .con v1"),
        ("{", "begins with a brace is JSON"),
        ('{"forward": "exact", "layer": []}', "not layer"),
        ('{"layers": {"conv1": "exact"}}', "a list of objects"),
        ('{"layers": [{"layer": 3, "forward": "exact"}]}', "is text"),
        ('{"layers": [{"layer": "a b", "forward": "exact"}]}', "has no space"),
        ('{"layers": [{"layer": "a", "forwards": "exact"}]}', "not forwards"),
        ('{"forward": 3}', "a text or an object, not 3"),
    ],
)
def test_a_text_that_says_nothing_is_refused(text, message):
    with pytest.raises((UsageError, UsageTypeError), match=message):
        accumulators_of(text)


def test_json_names_what_a_text_names():
    text = '{"backward": "exact", "layers": [{"layer": "fc", "backward": "chunk=64", "input_gradient": "exact"}]}'
    assert accumulators_of(text) == accumulators_of("backward=exact;fc:backward=chunk=64;fc:input_gradient=exact")
    assert accumulators_of(text).of_layer("fc") == (DEFAULT, EXACT, CHUNKS)


def test_a_report_of_an_order_is_that_order():
    equal = validate_dot(product_of("groups(lanes(4), rising(), folding())"), length=16)
    found = as_accumulators(json.dumps(equal.to_dict()))
    assert equal.equal and found == product_of("groups(lanes(4), rising(), folding())")
    declared = validate_dot("numpy.matmul", "exact", length=16).to_dict()
    for report in (declared, {"matches": [], "equal": True}, {"matches": [{}], "equal": True}):
        with pytest.raises(UsageError, match="only where its verdict is 'equal'"):
            accumulators_of(json.dumps(report))
    declared = validate_dot(Accumulator(chunk=8), "chunk=8,fma=true", length=16).to_dict()
    assert accumulators_of(json.dumps(declared)) == accumulators_of("chunk=8,fma=true")


def test_a_choice_that_says_nothing_is_refused():
    with pytest.raises(UsageError, match="layers inside it"):
        Accumulators(layers={"a": Accumulators(layers={"b": EXACT})})
    with pytest.raises(UsageTypeError, match="forward must be an Accumulator"):
        Accumulators(forward=64)
    with pytest.raises(UsageTypeError, match="is text"):
        Accumulators(layers={3: EXACT})
    with pytest.raises(UsageError, match="accumulator multiplies by scales"):
        as_accumulators(Product(epilogue=(Scale("right"), Bias())))


def test_a_text_may_be_a_file(tmp_path):
    path = tmp_path / "order.json"
    path.write_text(json.dumps(to_dict(accumulators_of("forward=exact;fc:chunk=64"))))
    assert accumulators_of(text_or_file(str(path))) == accumulators_of("forward=exact;fc:chunk=64")
    assert text_or_file("exact") == "exact"
    with pytest.raises(UsageError, match="cannot be read as a JSON file"):
        text_or_file(str(tmp_path / "none.json"))


def test_kernels_of_a_layer_have_the_sums_of_its_passes():
    kernels = bind("reference", 1, accumulators_of("forward=exact;input_gradient=chunk=64;fc:chunk=64"))
    forward, derivative = kernels.of_layer("conv1")
    assert (forward.accumulator, derivative.by_input.accumulator) == (EXACT, CHUNKS)
    assert derivative.by_weight.accumulator == DEFAULT and derivative.by_weight.swapped is derivative.by_weight
    forward, derivative = kernels.of_layer("fc")
    assert forward is derivative is derivative.by_input is derivative.by_weight and forward.accumulator == CHUNKS
    assert kernels.of_layer("fc") is kernels.of_layer("fc")
    uniform = bind("reference", 1, EXACT)
    assert uniform.of_layer("fc") == (uniform, uniform)


def test_kernels_that_do_not_know_the_sums_refuse_products():
    kernels = bind("reference", 1, accumulators_of("forward=exact;input_gradient=chunk=64"))
    for each, hint in ((kernels, "of_layer"), (kernels.of_layer("fc")[1], "by_input or kernels.by_weight")):
        for product in (each.matmul, each.conv2d, each.conv2d_input_gradient, each.conv2d_weight_gradient):
            with pytest.raises(UsageError, match=hint):
                product()
        assert each.zeros((2,)).shape == (2,)


def test_swapped_exchanges_the_operands():
    assert isinstance(MIXED, Product)
    kernels = bind("reference", 1, MIXED)
    assert kernels.swapped.accumulator == Product(MIXED.right, MIXED.left, order=MIXED.order)
    assert kernels.swapped.accumulator.left == Operand("float8_e5m2", "truncate")
    assert kernels.swapped.swapped is kernels


def test_swapped_exchanges_the_parts_of_the_operands():
    """The left operand's second part, times the right one's first, becomes the right operand's."""
    parts = Operand("bfloat16", "nearest_even", parts=2), Operand("bfloat16", "nearest_even")
    product = Product(*parts, parts=Parts(((1, 0), (0, 0))))
    swapped = bind("reference", 1, product).swapped.accumulator
    assert (swapped.left, swapped.right, swapped.parts.pairs) == (parts[1], parts[0], ((0, 1), (0, 0)))
