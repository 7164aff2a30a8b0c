"""Fields of a policy, integers and decoders."""

from __future__ import annotations

from verdicts.rows.row import BFLOAT16, DIFFERENT, E5M2, EQUAL, FLOAT16, UNDECIDED, UNEXPLAINED, Row, Verdict


def _policy(name: str, number: int, options: str, verdict: Verdict, *causes: str) -> Row:
    """A function of casts.py, once for each policy. A process for each would take longer than the cast."""
    return Row(f"cast-policy_{name}-{number}", f"cast {{here}}/casts.py:{name} {options} --in-process", verdict, causes)


def _integer(name: str, options: str, verdict: Verdict, *causes: str, number: int = 0, **words: tuple[str, ...]) -> Row:
    """A function of integer_casts.py."""
    command = f"cast {{here}}/integer_casts.py:{name} {options} --in-process"
    return Row(f"cast-{name}-{number}", command, verdict, causes, **words)


_INT8 = "--format int8 --mode nearest_even"
_CODES = "--source float8_e4m3fn --format float32"
_HALF_ADDED = "half is added with the sign of x, in the arithmetic of the source, and the sum is truncated"
_FLOORED = "half is added, in the arithmetic of the source, and the floor of the sum is taken"
_SMALL = "--format float8_e5m2 --source bfloat16 --mode nearest_even"
_UPPER = "--format float8_e5m2 --source float16 --mode toward_zero"
_TRUNCATED_NAN = "NaN keeps the upper bits of its payload, and becomes infinity where these are 0"

POLICIES = (
    # each stand-in with the policy that it follows, and with another
    _policy("small_results", 0, f"{_SMALL} --subnormal-results flush", EQUAL),
    _policy("small_results", 1, _SMALL, DIFFERENT, "results below the smallest normal number become zero"),
    _policy(
        "small_results", 2, f"{_SMALL} --subnormal-results flush_before", DIFFERENT,
        "results below the smallest normal number become zero",
    ),
    _policy("small_inputs", 0, f"{_SMALL} --subnormal-results flush_before", EQUAL),
    _policy("of_bfloat16", 0, f"{_SMALL} --subnormal-results flush", DIFFERENT, "subnormal results are kept"),
    _policy("tiny_results", 0, f"{_SMALL} --subnormal-results flush_tiny", EQUAL),
    _policy(
        "tiny_results", 1, f"{_SMALL} --subnormal-results flush", DIFFERENT,
        "results that would be below the smallest normal number with an unlimited exponent become zero",
    ),
    _policy("infinity_to_nan", 0, f"{E5M2} --overflow saturate --infinity nan", EQUAL),
    _policy("infinity_to_nan", 1, f"{E5M2} --overflow saturate", DIFFERENT, "infinity becomes NaN"),
    _policy("upper_byte", 0, f"{_UPPER} --nan truncated", EQUAL),
    _policy("upper_byte", 1, _UPPER, DIFFERENT, _TRUNCATED_NAN),
    _policy("zeros_positive", 0, f"{E5M2} --zero positive", EQUAL),
    _policy("zeros_positive", 1, E5M2, DIFFERENT, "every zero is +0"),
    _policy("never_zero", 0, f"{E5M2} --underflow smallest", EQUAL),
    _policy("nan_to_zero", 0, f"{E5M2} --nan zero", EQUAL),
    _policy("e5m2", 0, f"{E5M2} --nan zero", DIFFERENT, "NaN stays NaN"),
    _policy("zero_without_sign", 0, f"{E5M2} --zero positive_input", EQUAL),
)  # fmt: skip

INTEGERS = (
    # right
    _integer("int8_even", _INT8, EQUAL, prints=("becomes 0 (--nan 0)",)),
    _integer("int8_even", f"{_INT8} --nan zero", EQUAL, number=1, never=("--nan",)),
    _integer("int8_even", "--format int8", EQUAL, number=2, prints=("nearest_even, overflow saturate", "preset onnx")),
    _integer("int8_numbers", f"{_INT8} --source float64", EQUAL),
    _integer("int4_even", "--format int4 --mode nearest_even --source float16", EQUAL, prints=("every input",)),
    _integer("int8_wrapped", f"{_INT8} --overflow wrap", EQUAL),
    _integer("int32_as_x86", "--format int32 --preset x86", EQUAL),
    _integer("int32_as_x86", "--format int32", EQUAL, number=1, prints=("toward_zero", "equal to preset x86")),
    _integer("uint8_of_3", "--format uint8_z3 --mode nearest_even", EQUAL),
    _integer("sign_and_magnitude", "--format int8_sign_magnitude --mode nearest_even", EQUAL),
    _integer("bfloat16_of_integers", f"{BFLOAT16} --source int64", EQUAL),
    _integer("bfloat16_of_integers", f"{BFLOAT16} --source int8", EQUAL, number=1, prints=("every input",)),
    Row(
        "cast-signed_result",
        "cast {built}/native.so:byte_as_short --header {here}/native.c --format int8",
        DIFFERENT,
        (UNEXPLAINED,),
        ("no integer of the type",),
    ),
    _integer("decoded", _CODES, EQUAL, prints=("every input: 256", "equal to one rounding")),
    _integer("decoded", f"{_CODES} --nan canonical", EQUAL, number=1),
    _integer("decoded_flushed", f"{_CODES} --subnormal-inputs flush", EQUAL),
    _integer("decoded_to_int8", f"{_INT8} --source float8_e4m3fn", EQUAL, prints=("every input: 256",)),
    # wrong
    _integer(
        "int8_half_added", _INT8, DIFFERENT, "rounded as nearest_away", _HALF_ADDED, prints=("tie:", "near_tie: ")
    ),
    _integer("int8_half_floored", _INT8, DIFFERENT, _FLOORED, prints=("tie:", "near_tie: ")),
    _integer("int8_truncated", _INT8, DIFFERENT, "rounded as toward_zero", prints=("rounding:",), never=("overflow_",)),
    _integer("int8_wrapped", _INT8, DIFFERENT, "overflow wrap", number=1, prints=("overflow_edge:", "infinity: 2 ")),
    _integer("int8_symmetric", _INT8, DIFFERENT, UNEXPLAINED, prints=("expected -128, got -127",)),
    _integer(
        "int8_low_wrapped", _INT8, DIFFERENT, "infinity becomes the largest number", UNEXPLAINED,
        prints=("overflow_edge:",), never=("uint32",),
    ),
    _integer(
        "int8_low_wrapped", "--format int8", DIFFERENT, UNEXPLAINED, number=1,
        prints=("nearest_even, overflow saturate",),
    ),
    _integer("int8_infinity_is_zero", _INT8, DIFFERENT, "infinity becomes 0", prints=("infinity: 2 ",)),
    _integer("int8_nan_largest", f"{_INT8} --nan zero", DIFFERENT, "NaN becomes the largest number"),
    _integer("int8_tail", _INT8, DIFFERENT, prints=("depends on the length of the array or on the place in it",)),
    _integer(
        "int32_as_x86", "--format int32 --preset arm", DIFFERENT, "overflow indefinite",
        "NaN becomes the smallest number", number=2, never=("rounding:",),
    ),
    _integer(
        "uint8_of_3_first", "--format uint8_z3 --mode nearest_even", DIFFERENT,
        "the zero point is added before rounding, in float32",
    ),
    *(
        _integer(
            "bfloat16_through_float32", f"{BFLOAT16} --source {source}", DIFFERENT,
            "x is rounded to nearest even to float32", number=number,
        )
        for number, source in enumerate(("int64", "uint32"))
    ),
    _integer(
        "float32_through_float64", "--format float32 --mode nearest_even --source int64", DIFFERENT,
        "x is rounded to nearest even to float64",
    ),
    _integer("float16_of_signed", f"{FLOAT16} --source uint8", DIFFERENT, UNEXPLAINED, prints=("on 128 inputs",)),
    _integer("decoded_flushed", _CODES, DIFFERENT, "subnormal inputs are taken as zero", number=1),
    _integer(
        "decoded_flushed", f"{_CODES} --nan any", DIFFERENT, "subnormal inputs are taken as zero", number=2,
        prints=("subnormal_input: 14 ",),
    ),
    _integer("decoded_as_fnuz", _CODES, DIFFERENT, "codes of float8_e4m3fn are read as float8_e4m3fnuz"),
    # no answers
    _integer("int8_in_a_column", _INT8, UNDECIDED, prints=("answered shape",)),
    _integer("int8_even", "--format int8 --preset vax", UNDECIDED, number=3, prints=("unknown preset 'vax'",)),
    _integer("int8_even", f"{_INT8} --zero positive", UNDECIDED, number=4, prints=("--zero cannot be used",)),
)  # fmt: skip
