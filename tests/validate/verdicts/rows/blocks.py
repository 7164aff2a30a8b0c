"""Block quantisers and dequantisers."""

from __future__ import annotations

from verdicts.rows.row import DIFFERENT, EQUAL, UNDECIDED, UNEXPLAINED, Row, Verdict, fails


def _blocks(name: str, options: str, verdict: Verdict, *causes: str, **words: tuple[str, ...]) -> Row:
    """A function of quantisers.py."""
    return Row(
        f"blocks-{name}{'-0.5' * options.endswith('0.5')}",
        f"blocks {{here}}/quantisers.py:{name} {options}",
        verdict,
        causes,
        **words,
    )


_MXFP8, _MXFP4 = "--format mxfp8_e4m3 --scale-rule floor", "--format mxfp4 --scale-rule floor"

BLOCKS = (
    # right
    _blocks("mxfp8_floor", "--format mxfp8_e4m3", EQUAL, prints=("equal in every bit: scale rule floor",)),
    _blocks("mxfp8_floor_bfloat16", _MXFP8, EQUAL, prints=("answered as values in bfloat16",)),
    _blocks("mxfp8_floor_float64", _MXFP8, EQUAL, prints=("answered as values in float64",)),
    _blocks("mxfp8_own_types", _MXFP8, EQUAL, prints=("answered as codes",)),
    _blocks("mxfp8_ceil_codes", "--format mxfp8_e5m2", EQUAL, prints=("equal in every bit: scale rule ceil",)),
    _blocks("mxfp4_even", "--format mxfp4 --scale-rule even", EQUAL),
    _blocks("nvfp4_of_a_quarter", "--format nvfp4 --tensor-scale 0.25", EQUAL, prints=("scale overflow saturate",)),
    _blocks("nvfp4", "--format nvfp4 --scale-overflow saturate", EQUAL),
    # wrong, with a definition
    _blocks("mxfp4_ties_away", _MXFP4, DIFFERENT, "elements are rounded nearest_away"),
    _blocks("mxfp4_truncated", _MXFP4, DIFFERENT, "elements are rounded toward_zero"),
    _blocks("mxfp8_ceil", _MXFP8, DIFFERENT, "the scale follows rule ceil"),
    _blocks(
        "mxfp4_ceil_truncated", _MXFP4, DIFFERENT, "the scale follows rule ceil, and elements are rounded toward_zero"
    ),
    _blocks("mxfp8_unclipped", _MXFP8, DIFFERENT, "elements beyond the largest do not saturate"),
    # wrong, without one
    _blocks(
        "mxfp8_logarithm",
        "--format mxfp8_e5m2",
        DIFFERENT,
        UNEXPLAINED,
        prints=("equal to none", "just below a power of two"),
    ),
    _blocks(
        "mxfp8_zeros_are_nan",
        _MXFP8,
        DIFFERENT,
        "blocks of zeros become NaN",
        prints=("zeros: 2 blocks",),
        never=("element:", "special:"),
    ),
    _blocks(
        "nvfp4_zeros_lose_signs",
        "--format nvfp4 --scale-overflow saturate",
        DIFFERENT,
        "blocks that become zeros lose their signs",
        never=("element:", "special:"),
    ),
    _blocks("mxfp8_nan_ignored", _MXFP8, DIFFERENT, UNEXPLAINED, prints=("special:",), never=("element:", "zeros:")),
    _blocks("mxfp8_last_unrounded", _MXFP8, DIFFERENT, UNEXPLAINED, prints=("element:", "element 31: input")),
    _blocks("mxfp8_half_looked_at", _MXFP8, DIFFERENT, UNEXPLAINED),
    _blocks(
        "mxfp8_scale_one_more",
        _MXFP8,
        DIFFERENT,
        "the scale is one power of two more than that of the elements",
        prints=("ordinary blocks whose scale is another",),
    ),
    _blocks("mxfp4_swapped", _MXFP4, DIFFERENT, "neighbouring elements are swapped"),
    _blocks("mxfp4_without_negative_zero", _MXFP4, DIFFERENT, "zeros have no sign"),
    _blocks("nvfp4_of_a_quarter", "--format nvfp4 --tensor-scale 0.5", DIFFERENT, UNEXPLAINED),
    _blocks(
        "mxfp8_subnormals_flushed", _MXFP8, DIFFERENT, UNEXPLAINED, prints=("subnormal:",), never=("zeros:", "special:")
    ),
    _blocks("mxfp8_by_bfloat16", _MXFP8, DIFFERENT, "quotients are rounded to bfloat16 first"),
    _blocks(
        "nvfp4_reciprocal", "--format nvfp4 --scale-overflow saturate", DIFFERENT, "quotients by a float32 reciprocal"
    ),
    # no answers
    fails("blocks", "one_scale_for_all", _MXFP8, "answers some blocks otherwise among", file="quantisers.py"),
    fails("blocks", "random_elements", _MXFP4, "differently in equal calls", file="quantisers.py"),
    fails("blocks", "segfaults", _MXFP8, "crashed: its process ended with SIGSEGV", file="quantisers.py"),
    fails("blocks", "scales_only", _MXFP4, "expected floats", file="quantisers.py"),
    fails("blocks", "exits_at_once", _MXFP8, "ended its process (exit code 0)"),
)


def _scales(name: str, options: str, verdict: Verdict, *causes: str, **words: tuple[str, ...]) -> Row:
    """A function of scales.py."""
    row = _blocks(name, options, verdict, *causes, **words)
    form = options.split("--format ")[1].split()[0].strip("'")
    return row._replace(name=f"{row.name}-{form}", command=row.command.replace("quantisers.py", "scales.py"))


_TILES = "--format 'quantizer(statistic(tile(4, 32)), scale(arithmetic=float32), quotient(float32))'"
_FP8, _DECODE8 = "--format fp8_1x128", "--decode --format mxfp8_e4m3"
_RECIPROCAL = "quotients by a float32 reciprocal"
_RANDOM = "--format te_nvfp4_stochastic"
_UE4M3 = (
    "quantizer(statistic(block(16)), scale(ratio, float32_reciprocal, ue4m3), quotient(float32_reciprocal), "
    "element(float4_e2m1fn), second(form=multiplier), specials(divide, saturate))"
)

SCALES = (
    # right
    _scales("fp8_block", _FP8, EQUAL, prints=("answered as codes",)),
    _scales("fp8_block_values", _FP8, EQUAL, prints=("blocks of 128",)),
    _scales("fp8_tile", _TILES, EQUAL, prints=("tiles of 4 x 32",)),
    _scales("fp8_tensor", "--format te_float8_e4m3_current", EQUAL),
    _scales("fp8_tensor_of_three", "--format te_float8_e4m3_delayed --statistic 3", EQUAL),
    _scales("te_own", "--format te_nvfp4", EQUAL, prints=("not looked at: infinities and NaNs",)),
    _scales("te_own_packed", "--format te_nvfp4", EQUAL),
    _scales("te_of_ten", "--format te_nvfp4 --tensor-scale 10", EQUAL),
    _scales("mxfp8_rceil", "--format torchao_mxfp8_e4m3_rceil", EQUAL),
    _scales("int8_row", "--format int8_affine_row", EQUAL),
    _scales("decode_mxfp4", "--decode --format mxfp4", EQUAL, prints=("every code with every scale",)),
    _scales("decode_nvfp4", "--decode --format nvfp4 --tensor-scale 0.25", EQUAL),
    _scales("decode_mxfp8_by_bfloat16", _DECODE8, EQUAL, prints=("answered as values in bfloat16",)),
    _scales("te_own", f"--format '{_UE4M3}'", EQUAL, prints=("rounded to ue4m3",)),
    _scales("te_stochastic", _RANDOM, EQUAL, prints=("its own random bits", "frequencies are as they should be")),
    _scales("te_given", f"{_RANDOM} --given-bits", EQUAL, prints=("given random words", "equal in every bit")),
    # wrong, with a cause
    _scales("te_stochastic_four_bits", _RANDOM, DIFFERENT, "4 bits: 4 random bits of variant A"),
    _scales("te_own", _RANDOM, DIFFERENT, "nearest even: no random bit decides"),
    _scales("te_given_high", f"{_RANDOM} --given-bits", DIFFERENT, "the high 8 bits of a word decide"),
    _scales("te_given_ignored", f"{_RANDOM} --given-bits", DIFFERENT, "nearest_even: the words are ignored"),
    _scales(
        "mxfp8_top_exponent", "--format mxfp8_e4m3", DIFFERENT, "NaN and infinity count as 2^128 for the scale",
        prints=("special:",), never=("element:", "zeros:"),
    ),
    _scales(
        "fp8_block_divides_zeros", _FP8, DIFFERENT, "a scale of 0 is divided by", prints=("zeros:",),
        never=("element:", "special:", "subnormal:", "scale_limit:"),
    ),
    _scales("fp8_block_reciprocal", _FP8, DIFFERENT, _RECIPROCAL),
    _scales("fp8_block_bfloat16_quotients", _FP8, DIFFERENT, "quotients are rounded to bfloat16 first"),
    _scales("fp8_block_absolute", _FP8, DIFFERENT, "signs are lost"),
    _scales("te_own", "--format nvfp4", DIFFERENT, _RECIPROCAL, prints=("preset te_nvfp4",)),
    _scales("nvfp4_scales_up", "--format nvfp4 --scale-overflow saturate", DIFFERENT, "scales are rounded up"),
    _scales("int8_row_truncated", "--format int8_affine_row", DIFFERENT, "elements are rounded toward_zero"),
    _scales(
        "decode_nvfp4_without_tensor_scale", "--decode --format nvfp4 --tensor-scale 0.5", DIFFERENT,
        "the tensor scale is forgotten",
    ),
    _scales("decode_mxfp8_doubled", _DECODE8, DIFFERENT, "the scale is one power of two more"),
    _scales("decode_mxfp8_swapped", _DECODE8, DIFFERENT, "neighbouring elements are swapped"),
    # wrong, without one
    _scales("te_stochastic_away", _RANDOM, DIFFERENT, UNEXPLAINED, never=("frequencies",)),
    _scales("fp8_block_of_240", _FP8, DIFFERENT, UNEXPLAINED),
    _scales("mxfp8_unusual_scales", "--format mxfp8_e4m3", DIFFERENT, UNEXPLAINED, prints=("none of its numbers",)),
    _scales("int8_row_wraps", "--format int8_affine_row", DIFFERENT, UNEXPLAINED, prints=("0x7f, got code 0x80",)),
    _scales("int8_row_point_one_more", "--format int8_affine_row", DIFFERENT, UNEXPLAINED),
    _scales("decode_mxfp8_ends_doubled", _DECODE8, DIFFERENT, UNEXPLAINED),
    _scales("decode_mxfp8_smallest_scale_is_zero", _DECODE8, DIFFERENT, UNEXPLAINED, prints=("scale_limit:",)),
    _scales("decode_mxfp8_nan_scale_is_infinite", _DECODE8, DIFFERENT, UNEXPLAINED, prints=("special:",)),
    _scales("decode_mxfp8_flushed", _DECODE8, DIFFERENT, UNEXPLAINED, prints=("subnormal:",)),
    # no answers
    _scales("fp8_block", "--format 'quantizer(statistic(block(0)))'", UNDECIDED, prints=("size of a block must be",)),
    _scales("decode_mxfp8_one_row", _DECODE8, UNDECIDED, prints=("otherwise among 1 than among",)),
    _scales("mxfp8_first_call_is_other", "--format torchao_mxfp8_e4m3_rceil", UNDECIDED, prints=("in equal calls",)),
    _scales(
        "fp8_tile", "--format 'quantizer(statistic(tile(9999, 9999)))'", UNDECIDED, prints=("too large to be tested",)
    ),
    _scales("fp8_tensor", "--format te_float8_e4m3_delayed", UNDECIDED, prints=("pass statistic",)),
)  # fmt: skip


def _other(kind: str, command: str, verdict: Verdict, *causes: str, **words: tuple[str, ...]) -> Row:
    """A C function, a program or a file."""
    return Row(f"blocks-{kind}", f"blocks {command}", verdict, causes, **words)


_C, _EVEN = "--header {here}/native.c --format mxfp4 --scale-rule floor", "--format mxfp4 --scale-rule even"
_PROGRAM = "'command:{python} {here}/block_program.py"
_OF_FOUR = "'quantizer(statistic(block(4)), scale(floor, format=float8_e8m0fnu), element=element(float4_e2m1fn))'"

FORMS = (
    _other("c", f"{{built}}/native.so:mxfp4_blocks {_C}", EQUAL, prints=("answered as codes",)),
    _other("c_packed", f"{{built}}/native.so:mxfp4_packed {_C}", EQUAL),
    _other(
        "c_high_first", f"{{built}}/native.so:mxfp4_packed_high_first {_C}", DIFFERENT,
        "neighbouring elements are swapped",
    ),
    _other(
        "c_decoded", "{built}/native.so:mxfp4_decoded --header {here}/native.c --decode --format mxfp4", EQUAL,
        prints=("every code with every scale",),
    ),
    _other(
        "c_cast", f"{{built}}/native.so:scaled --argument scale=1.0 {_C}", UNDECIDED,
        prints=("answered uint16 of shape",),
    ),
    _other("program", f"{_PROGRAM} plain' {_EVEN}", EQUAL),
    _other("program_packed", f"{_PROGRAM} packed' {_EVEN}", EQUAL),
    _other("program_short", f"{_PROGRAM} short' {_EVEN}", UNDECIDED, prints=("lines to",)),
    _other(
        "program_without_scales", f"{_PROGRAM} without_scales' {_EVEN}", UNDECIDED,
        prints=("32 codes without a scale",),
    ),
    _other("file", f"{{here}}/blocks_right.txt --format {_OF_FOUR}", EQUAL, prints=("2 blocks of 4",)),
    _other(
        "file_wrong", f"{{here}}/blocks_wrong.txt --format {_OF_FOUR}", DIFFERENT, UNEXPLAINED,
        prints=("1 block, 1 element",),
    ),
    _other("file_of_others", f"{{here}}/blocks_right.txt {_EVEN}", UNDECIDED, prints=("lines have 9 words",)),
)  # fmt: skip
