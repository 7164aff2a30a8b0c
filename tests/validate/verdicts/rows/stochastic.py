"""Stochastic rounding, operations, and implementations of P3109."""

from __future__ import annotations

from verdicts.rows.row import DIFFERENT, EQUAL, UNDECIDED, UNEXPLAINED, Row, Verdict


def _chance(name: str, options: str, verdict: Verdict, *causes: str, **words: tuple[str, ...]) -> Row:
    """A function of stochastic.py from float16 to float8_e5m2."""
    command = f"cast {{here}}/stochastic.py:{name} --format float8_e5m2 --source float16 --mode {options}"
    return Row(f"cast-{name}-{options.replace(' ', '')}", command, verdict, causes, **words)


_8_GIVEN = "stochastic --random-bit-count 8 --given-bits"
_FINE = ("as they should be",)
#: Random bits of their own, and given ones.
STOCHASTIC = (
    _chance("own", "stochastic", EQUAL, prints=_FINE),
    _chance("own", "stochastic --random-bit-count 8", EQUAL, prints=_FINE),
    _chance("four_bits", "stochastic --random-bit-count 4", EQUAL, prints=_FINE),
    _chance("four_bits_midpoint", "stochastic_b --random-bit-count 4", EQUAL, prints=("variant B", *_FINE)),
    _chance("four_bits_to_nearest", "stochastic_c --random-bit-count 4", EQUAL, prints=("variant C", *_FINE)),
    _chance("four_bits", "stochastic", DIFFERENT, "4 bits: 4 random bits of variant A"),
    _chance("four_bits_midpoint", "stochastic", DIFFERENT, "4 bits: 4 random bits of variant B"),
    _chance("four_bits_to_nearest", "stochastic", DIFFERENT, "4 bits: 4 random bits of variant C"),
    _chance("never_up", "stochastic", DIFFERENT, "never up: the probability is 0", prints=("up in 0.00%",)),
    _chance("nearest", "stochastic", DIFFERENT, "nearest even: no random bit decides"),
    _chance("one_word", "stochastic", DIFFERENT, "one word for all: the elements of a call share one random number"),
    _chance("half", "stochastic", DIFFERENT, "either neighbour alike: the probability is 1/2"),
    _chance("half_in_a_binade", "stochastic", DIFFERENT, UNEXPLAINED, prints=("place below 1/2: up in",)),
    _chance("half", "stochastic_equal", EQUAL, prints=("both neighbours alike", *_FINE)),
    _chance("fixed_word", "stochastic", DIFFERENT, UNEXPLAINED, never=("one word for all",)),
    _chance("given_half", "stochastic_equal --random-bit-count 8 --given-bits", EQUAL),
    _chance(
        "given", "stochastic_equal --random-bit-count 8 --given-bits", DIFFERENT, "variant A of stochastic rounding"
    ),
    _chance("biased", "stochastic", DIFFERENT, "biased by +1/8"),
    _chance("squared", "stochastic", DIFFERENT, UNEXPLAINED, never=("answered differently",)),
    _chance("given", _8_GIVEN, EQUAL, prints=("equal in every trial",)),
    _chance(
        "given_midpoint", "stochastic_b --random-bit-count 4 --given-bits", EQUAL, prints=("equal in every trial",)
    ),
    _chance("given_high", _8_GIVEN, DIFFERENT, "the high 8 bits of a word decide"),
    _chance("given_first", _8_GIVEN, DIFFERENT, "one word for all: the first word of a call decides for every number"),
    _chance("given_ignored", _8_GIVEN, DIFFERENT, "nearest_even: the words are ignored"),
    _chance("given_midpoint", "stochastic --random-bit-count 4 --given-bits", DIFFERENT, "variant B of stochastic"),
    _chance("given_hashed", _8_GIVEN, DIFFERENT, UNEXPLAINED),
)
_P3109 = "--preset p3109 --formats p3109_k4p2_finite"
_CONFORMS = "--formats Binary4p2sf --operations Add,IsNaN"
#: Operations and implementations of P3109.
P3109 = (
    Row("op-add", f"op {{here}}/stochastic.py:add --operation add {_P3109}", EQUAL, (), ("all 256 combinations",)),
    Row(
        "op-add_to_zero",
        f"op {{here}}/stochastic.py:add_to_zero --operation add {_P3109}",
        DIFFERENT,
        ("results are rounded nearest_zero, overflow infinity",),
        ("one code off",),
    ),
    Row(
        "op-abs_of_nan",
        f"op {{here}}/stochastic.py:abs_of_nan --operation abs {_P3109}",
        DIFFERENT,
        ("codes of p3109_k4p2_finite are read as numbers without infinity and NaN",),
        ("1 of 16 results", "NaN expected"),
    ),
    Row(
        "op-third_of_three",
        "op {built}/native.so:third --header {here}/native.c --operation fma --formats p3109_k3p2 --mode nearest_even",
        DIFFERENT,
        (UNEXPLAINED,),
        ("all 512 combinations",),
    ),
    Row(
        "conformance-right",
        f"conformance p3109 {{here}}/stochastic.py:make {_CONFORMS}",
        EQUAL,
        (),
        ("equal in every bit in 2 specializations", "not a declaration of conformance"),
    ),
    Row(
        "conformance-one_off",
        f"conformance p3109 {{here}}/stochastic.py:make_one_off {_CONFORMS}",
        DIFFERENT,
        (),
        ("1 of 256 answers differ", "κ = 1", "expected 0x6 (2.0), got 0x7 (3.0)"),
    ),
    Row(
        "conformance-absent",
        f"conformance p3109 {{here}}/stochastic.py:make {_CONFORMS},Sqrt",
        UNDECIDED,
        (),
        ("Sqrt<Binary4p2sf, Binary4p2sf, (NearestTiesToEven, SatNone)>: not provided",),
    ),
)
