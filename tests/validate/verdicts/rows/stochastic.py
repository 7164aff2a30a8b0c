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
_INT8 = "--format int8 --source float16 --mode stochastic"
_INT8_GIVEN = f"{_INT8} --random-bit-count 8 --given-bits"
_SIMULATOR = "'command:{python} {here}/random_simulator.py"
_TO_E5M2 = "--format float8_e5m2 --source float16"


def _more(name: str, command: str, verdict: Verdict, *causes: str, **words: tuple[str, ...]) -> Row:
    return Row(f"cast-{name}", f"cast {command}", verdict, causes, **words)


#: Integers, programs, and fields of a policy.
MORE = (
    _more("int8_given", f"{{here}}/stochastic.py:int8_given {_INT8_GIVEN}", EQUAL, prints=("equal in every trial",)),
    _more(
        "int8_given_high", f"{{here}}/stochastic.py:int8_given_high {_INT8_GIVEN}", DIFFERENT,
        "the high 8 bits of a word decide",
    ),
    _more(
        "int8_given_b", f"{{here}}/stochastic.py:int8_given {_INT8_GIVEN}".replace("stochastic -", "stochastic_b -"),
        DIFFERENT, "variant A of stochastic rounding",
    ),
    _more("int8_given_wraps", f"{{here}}/stochastic.py:int8_given_wraps {_INT8_GIVEN}", DIFFERENT, UNEXPLAINED),
    _more("int8_given_wraps_declared", f"{{here}}/stochastic.py:int8_given_wraps {_INT8_GIVEN} --overflow wrap",
          DIFFERENT, UNEXPLAINED, prints=("smallest input inf",)),
    _more("int8_own", f"{{here}}/stochastic.py:int8_own {_INT8} --random-bit-count 8", EQUAL, prints=_FINE),
    _more("int8_own_of_32_bits", f"{{here}}/stochastic.py:int8_own {_INT8}", DIFFERENT, "8 bits: 8 random bits"),
    _more(
        "int8_own_four_bits", f"{{here}}/stochastic.py:int8_own_four_bits {_INT8}", DIFFERENT,
        "4 bits: 4 random bits of variant A",
    ),
    _more("int8_own_four_bits_declared", f"{{here}}/stochastic.py:int8_own_four_bits {_INT8} --random-bit-count 4",
          EQUAL, prints=_FINE),
    _more(
        "int8_own_away", f"{{here}}/stochastic.py:int8_own_away {_INT8}", DIFFERENT, UNEXPLAINED,
        prints=("results are neither of the two neighbours",), never=("likely cause",),
    ),
    _more("random_program", f"{_SIMULATOR} 0' {_TO_E5M2} --mode {_8_GIVEN}", EQUAL),
    _more("random_program_byte_2", f"{_SIMULATOR} 16' {_TO_E5M2} --mode {_8_GIVEN}", DIFFERENT,
          "24 bits: the low 24 bits of a word decide", prints=("the bits of a word from bit 16 on decide",)),
    _more("own_flushed", f"{{here}}/stochastic.py:own_flushed {_TO_E5M2} --mode stochastic --subnormal-results flush",
          EQUAL, prints=_FINE),
    _more("own_not_flushed", f"{{here}}/stochastic.py:own_flushed {_TO_E5M2} --mode stochastic", DIFFERENT,
          "subnormal inputs are taken as zero", UNEXPLAINED, prints=("neither of the two neighbours",)),
    _more("given_without_words", f"{{here}}/answers_right.txt {_TO_E5M2} --mode {_8_GIVEN}", UNDECIDED,
          prints=("has no random words",)),
)  # fmt: skip
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
