"""mpsim validate blocks: each rule is found from its answers; other quantisers are refused, with a block shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from mpsim.blocks import BLOCK_FORMATS, SCALE_RULES, dequantize, quantize, quantizer_of
from mpsim.blocks.quantizers.text import text_of
from mpsim.cli import app
from mpsim.kernels import spec_blocks
from mpsim.validate import SubjectError
from mpsim.validate.blocks.corpus import block_corpus
from mpsim.validate.blocks.validation import validate_blocks

pytest.importorskip("mpsim._kernels", reason="mpsim._kernels is not built: run 'pip install -e .'")

SUBJECTS = """
import numpy as np
from mpsim.blocks import quantize, round_to_blocks


def logarithm(x):
    amax = np.abs(x).max(-1, keepdims=True)
    sound = np.isfinite(amax)
    exponent = np.floor(np.log2(np.where(sound & (amax > 0), amax, np.float32(2.0**-149)))) - 2
    scale = np.ldexp(1.0, np.maximum(exponent, -127).astype(int))
    magnitude = np.minimum(np.where(sound, np.abs(x), 0) / scale, 6)
    step = np.where(magnitude < 2, 0.5, np.where(magnitude < 4, 1, 2))
    values = np.copysign(np.rint(magnitude / step) * step, x) * scale
    return np.where(sound, values, np.nan).astype(np.float32)


def bits(x):
    amax = np.abs(x).max(-1, keepdims=True)
    sound = np.isfinite(amax)
    exponent = np.frexp(np.where(sound & (amax > 0), amax, np.float32(2.0**-149)))[1] - 3
    scale = np.ldexp(1.0, np.maximum(exponent, -127))
    magnitude = np.minimum(np.where(sound, np.abs(x), 0) / scale, 6)
    step = np.where(magnitude < 2, 0.5, np.where(magnitude < 4, 1, 2))
    values = np.copysign(np.rint(magnitude / step) * step, x) * scale
    return np.where(sound, values, np.nan).astype(np.float32)


def cover(x):
    blocks = quantize(x, "mxfp4", scale_rule="cover")
    return blocks.codes, blocks.scales


def fails(x):
    raise RuntimeError("no such kernel")


def wrong_shape(x):
    return x[:, :-1]


def own_scale(x):
    return round_to_blocks(x, "mxfp4") * np.float32(len(x))


number = 3
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    Path("mx.py").write_text(SUBJECTS, encoding="utf-8")
    return lambda *words: CliRunner().invoke(app, ["validate", "blocks", *words], catch_exceptions=False)


@pytest.mark.parametrize("rule", SCALE_RULES)
@pytest.mark.parametrize(
    ("format", "codes"), [*((name, False) for name in BLOCK_FORMATS if name != "nvfp4"), ("mxfp4", True)]
)
def test_each_rule_is_found_alone(format: str, rule: str, codes: bool) -> None:
    def subject(x: Any) -> Any:
        blocks = quantize(x, format, scale_rule=rule)
        return (blocks.codes, blocks.scales) if codes else dequantize(blocks)

    report = validate_blocks(subject, format)
    assert [result.definition.rule for result in report.rules if result.blocks == 0] == [rule]
    assert report.equal and not report.declared


@pytest.mark.parametrize("overflow", ["saturate", "nan"])
def test_nvfp4_with_its_tensor_scale(overflow: str) -> None:
    def subject(x: Any) -> Any:
        blocks = quantize(x, "nvfp4", tensor_scale=0.375, scale_overflow=overflow)
        return blocks.codes, blocks.scales

    report = validate_blocks(subject, "nvfp4", tensor_scale=0.375)
    assert [result.definition.scale_overflow for result in report.rules if result.blocks == 0] == [overflow]
    assert not validate_blocks(subject, "nvfp4", tensor_scale=0.75).equal


def test_logarithm_is_told_apart_and_its_block_shown(run: Any) -> None:
    result = run("mx.py:logarithm", "--format", "mxfp4", "--json")
    report = json.loads(result.stdout)
    assert result.exit_code == 1 and not report["equal"] and report["equal_to"] == []
    nearest = report["rules"][0]
    assert nearest["scale_rule"] == "floor" and nearest["findings"][0]["class"] == "element"
    for finding in nearest["findings"]:  # no definition of ours rounds it so
        assert finding["cause"] is None and "logarithm" in finding["observed"]
    finding = nearest["findings"][0]
    example = finding["example"]
    word = int(example["input_hex"][int(np.argmax(np.abs(example["input"])))], 16)
    assert word & 0x7FFFFF >= 0x7FFFF8  # just below a power of two
    x = np.array(example["input"], np.float32)
    right = spec_blocks.dequantize_block(*spec_blocks.quantize_block(x.tolist(), BLOCK_FORMATS["mxfp4"]))
    assert right == example["expected"] != example["got"]
    shown = run("mx.py:logarithm", "--format", "mxfp4").stdout
    assert f"{word:#010x}" in shown and "unexplained; only blocks" in shown and "likely cause" not in shown


def test_exponent_of_the_bits_is_the_floor_rule(run: Any) -> None:
    result = run("mx.py:bits", "--format", "mxfp4")
    assert result.exit_code == 0 and "equal in every bit: scale rule floor\n" in result.stdout
    assert run("mx.py:bits", "--format", "mxfp4", "--scale-rule", "floor").exit_code == 0
    declared = run("mx.py:bits", "--format", "mxfp4", "--scale-rule", "ceil")
    assert declared.exit_code == 1 and "different from scale rule ceil" in declared.stdout


def test_codes_and_scales(run: Any) -> None:
    assert "equal in every bit: scale rule cover" in run("mx.py:cover", "--format", "mxfp4").stdout
    report = json.loads(run("mx.py:cover", "--format", "mxfp4", "--scale-rule", "floor", "--json").stdout)
    findings = {finding["class"]: finding for finding in report["rules"][0]["findings"]}
    scale = findings["scale"]
    assert scale["cause"] == "the scale follows rule cover"
    assert scale["example"]["answers"] == "codes"
    assert scale["example"]["got_scale"] == scale["example"]["expected_scale"] + 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("mx.py:bits", "--format", "mxfp5"), "mxfp5"),
        (("mx.py:bits", "--format", "te_nvfp4", "--scale-rule", "floor"), "has its own scale_rule"),
        (("mx.py:bits", "--format", "mxfp4", "--statistic", "2"), "--statistic follows from the input"),
        (("mx.py:bits", "--format", "fp8_128x128", "--decode"), "dequantisers of blocks or rows"),
        (("mx.py:bits", "--format", "mxfp4", "--decode", "--scale-rule", "floor"), "--scale-rule is for quantisers"),
        (("mx.py:bits", "--format", "mxfp4", "--scale-rule", "up"), "unknown scale rule 'up'"),
        (("mx.py:bits", "--format", "mxfp4", "--scale-overflow", "wrap"), "unknown scale_overflow 'wrap'"),
        (("mx.py:bits", "--format", "mxfp4", "--tensor-scale", "2"), "--tensor-scale is for nvfp4"),
        (("mx.py:bits", "--format", "nvfp4", "--scale-rule", "floor"), "one scale rule"),
        (("mx.py:absent", "--format", "mxfp4"), "absent"),
        (("mx.py:number", "--format", "mxfp4"), "not a function"),
        (("nowhere:f", "--format", "mxfp4"), "cannot import"),
        (("ml_dtypes.float8_e4m3fn", "--format", "mxfp4"), "package.module:function"),
        (("mx.py:fails", "--format", "mxfp4"), "no such kernel"),
        (("mx.py:wrong_shape", "--format", "mxfp4"), "shape"),
        (("mx.py:own_scale", "--format", "mxfp4"), "otherwise"),
        (("mx.py:bits",), ""),
    ],
)
def test_mistakes_exit_2(run: Any, words: tuple[str, ...], message: str) -> None:
    result = run(*words)
    assert result.exit_code == 2 and message in result.stderr and not result.stdout


def test_a_description_is_compared_with(run: Any) -> None:
    text = "quantizer(scale=scale(floor, format=float8_e8m0fnu), element=element(float4_e2m1fn))"
    result = run("mx.py:bits", "--format", text)
    assert result.exit_code == 0 and "equal in every bit: the description" in result.stdout
    report = json.loads(run("mx.py:bits", "--format", "mxfp4_ceil", "--json").stdout)
    assert report["format"] == "mxfp4_ceil" and report["declared"] and not report["equal"]
    assert report["rules"][0]["findings"][0]["cause"] == "the scale follows rule floor"
    assert quantizer_of(report["rules"][0]["quantizer"]) == quantizer_of("mxfp4_ceil")


@pytest.mark.parametrize("group", ["column()", "tile(3, 5)", "row()", "tensor()"])
def test_groups_of_other_shapes_are_called_in_their_shape(group: str) -> None:
    quantizer = quantizer_of(f"quantizer(statistic({group}), scale(arithmetic=float32), quotient(float32))")
    report = validate_blocks(lambda x: dequantize(quantize(x, quantizer)), quantizer)
    assert report.equal and report.blocks > 100
    if group == "tensor()":  # a call for each
        return
    other = quantizer_of(text_of(quantizer).replace("quotient(float32)", "quotient(float32_reciprocal)"))
    wrong = validate_blocks(lambda x: dequantize(quantize(x, other)), quantizer)
    assert {each.cause for each in wrong.rules[0].findings} == {"quotients by a float32 reciprocal"}


def test_a_cause_of_special_blocks_changes_nothing_that_is_right() -> None:
    """Reciprocal quotients would explain the blocks of zeros alone, but the others are divided."""

    def subject(x: Any) -> Any:
        found = quantize(x, quantizer_of("fp8_1x128"))
        return found.codes, found.scales.view(np.float32)

    report = validate_blocks(subject, "deepseek_v3_act")
    assert [(each.kind, each.cause) for each in report.rules[0].findings] == [
        ("zeros", "computed as in preset fp8_1x128")
    ]


def test_scales_of_rows_are_asked_with_several_blocks_a_row() -> None:
    quantizer = quantizer_of("te_nvfp4_rows")
    report = validate_blocks(lambda x: dequantize(quantize(x, quantizer)), "te_nvfp4_rows")
    assert report.equal and report.unseen
    assert not validate_blocks(lambda x: dequantize(quantize(x, quantizer)), "te_nvfp4").equal


def test_a_dequantiser_is_compared_on_every_pair(run: Any) -> None:
    Path("decoders.py").write_text(
        "from mpsim.rounding import decode\n"
        "def right(codes, scales):\n"
        "    return decode(codes, 'float4_e2m1fn') * decode(scales, 'float8_e8m0fnu')[:, None]\n"
        "def wrong(codes, scales):\n"
        "    return abs(right(codes, scales))\n",
        encoding="utf-8",
    )
    result = run("decoders.py:right", "--format", "mxfp4", "--decode")
    assert result.exit_code == 0 and "every code with every scale (8,192)" in result.stdout
    options = ("--format", "mxfp4", "--decode", "--json", "--junit", "out.xml", "--plot", "out.png")
    result = run("decoders.py:wrong", *options)
    report = json.loads(result.stdout)
    assert result.exit_code == 1 and {each["cause"] for each in report["classes"]} == {"signs are lost"}
    assert "signs are lost" in Path("out.xml").read_text() and Path("out.png").exists()


def test_answers_of_other_types_are_refused() -> None:
    with pytest.raises(SubjectError, match="expected values, or"):
        validate_blocks(lambda x: (x, x, x), "mxfp4")
    with pytest.raises(SubjectError, match="expected integers"):
        validate_blocks(lambda x: (x, x[:, 0]), "mxfp4")


def test_corpus_has_what_it_says() -> None:
    corpus = block_corpus("mxfp8_e4m3")
    with np.errstate(invalid="ignore"):
        amax = np.abs(corpus).max(-1)
    for exponent in range(-149, 128):
        power = np.ldexp(np.float32(1), exponent)
        assert {power, np.nextafter(power, np.float32(0)), np.nextafter(power, np.float32(np.inf))} <= {0.0, *amax}
    assert np.isnan(corpus).any() and np.isinf(corpus).any() and (corpus == 0).all(-1).any()
    assert (np.signbit(corpus) & (corpus == 0)).any()
