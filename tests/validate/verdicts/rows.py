"""The verdict matrix: stand-ins, right and wrong, and what ``mpsim validate`` has to say of each.

The answers were written down from what each stand-in does, not from what mpsim says of it.
"""

from __future__ import annotations

from typing import NamedTuple

from mpsim.validate import Verdict

EQUAL, DIFFERENT, UNDECIDED = Verdict.EQUAL, Verdict.DIFFERENT, Verdict.UNDECIDED
#: In place of a cause: no definition known to mpsim explains this, and it has to say so.
UNEXPLAINED = "unexplained"


class Row(NamedTuple):
    """A command and its answer.

    command: the words after ``mpsim validate``; ``{here}`` is this folder, ``{built}`` that of the compiled libraries,
    ``{steps}`` that of the step files, ``{python}`` the interpreter. causes: those that must be named, and no other;
    UNEXPLAINED where something stays without one. prints: words that must be there. never: words that would be false.
    """

    name: str
    command: str
    verdict: Verdict
    causes: tuple[str, ...] = ()
    prints: tuple[str, ...] = ()
    never: tuple[str, ...] = ()


def _cast(name: str, options: str, verdict: Verdict, *causes: str, **words: tuple[str, ...]) -> Row:
    """A function of casts.py."""
    return Row(f"cast-{name}", f"cast {{here}}/casts.py:{name} {options}", verdict, causes, **words)


def _fails(kind: str, name: str, options: str, *prints: str, file: str = "misbehaving.py") -> Row:
    return Row(f"{kind}-{name}", f"{kind} {{here}}/{file}:{name} {options}", UNDECIDED, (), prints)


_E5M2 = "--format float8_e5m2 --mode nearest_even"
_HALF = "--format float8_e5m2 --source float16 --mode nearest_even"
_FLOAT16 = "--format float16 --mode nearest_even"
_BFLOAT16 = "--format bfloat16 --mode nearest_even"
_GIVEN = "--format bfloat16 --mode stochastic --random-bit-count 16 --given-bits"
_OWN = "--format bfloat16 --mode stochastic --random-bit-count 16"
_BY_MODE = "{built}/native.so:by_mode --header {here}/native.c"
_NEVER_NAN = ("NaN becomes infinity", "NaN becomes zero")


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

CASTS = (
    # right
    _cast("e5m2", _E5M2, EQUAL),
    Row(
        "cast-undeclared",
        "cast {here}/casts.py:e5m2 --format float8_e5m2",
        EQUAL,
        (),
        ("rounds once", "equals preset ml_dtypes"),
    ),
    _cast("e4m3fn_saturating", "--format float8_e4m3fn --preset ocp_saturate", EQUAL),
    _cast("bfloat16", _BFLOAT16, EQUAL),
    Row("cast-bfloat16_of_float64", f"cast {{here}}/casts.py:bfloat16 {_BFLOAT16} --source float64", EQUAL),
    _cast("bfloat16_payload", _BFLOAT16, EQUAL, prints=("but for NaN payloads", "--nan payload declares it")),
    Row(
        "cast-payload_declared",
        f"cast {{here}}/casts.py:bfloat16_payload {_BFLOAT16} --nan payload",
        EQUAL,
        (),
        (),
        ("but for",),
    ),
    _cast("float16_numbers", _FLOAT16, EQUAL),
    _cast("signed_codes", _E5M2, EQUAL),
    _cast("as_ml_dtypes", _E5M2, EQUAL),
    _cast("big_endian", _BFLOAT16, EQUAL),
    _cast("in_place", _E5M2, EQUAL),
    _cast("talkative", _E5M2, EQUAL),
    _cast("list_of_codes", _E5M2, EQUAL),
    _cast(
        "half_toward_zero", "--format float8_e5m2 --source float16 --mode toward_zero", EQUAL, prints=("every input",)
    ),
    _cast("float4_satfinite", "--format float4_e2m1fn --preset ptx_satfinite", EQUAL),
    _cast("float32_of_float64", "--format float32 --source float64 --mode nearest_even", EQUAL),
    _cast("stochastic_given", _GIVEN, EQUAL, prints=("equal in every trial",)),
    _cast("stochastic_own", _OWN, EQUAL, prints=("as they should be",)),
    Row("cast-ml_dtypes", "cast ml_dtypes.float8_e4m3fnuz", EQUAL, (), ("rounds once", "equals preset ml_dtypes")),
    Row("cast-numpy", "cast numpy.float16 --preset numpy", EQUAL),
    Row(
        "cast-by_value",
        "cast {built}/native.so:to_half --header {here}/native.c --format float16 --preset numpy",
        EQUAL,
    ),
    Row(
        "cast-half_by_value",
        "cast {built}/native.so:upper_byte --header {here}/native.c --format float8_e5m2 --source float16 "
        "--mode toward_zero",
        EQUAL,
    ),
    Row(
        "cast-scaled_by_1",
        f"cast {{built}}/native.so:scaled --header {{here}}/native.c --argument scale=1.0 {_BFLOAT16}",
        EQUAL,
    ),
    Row("cast-by_mode", f"cast {_BY_MODE} --argument mode=3 --format bfloat16 --mode toward_zero", EQUAL),
    Row("cast-program", f"cast 'command:{{python}} {{here}}/simulator.py right' {_HALF}", EQUAL, (), ("every input",)),
    Row("cast-vectors", f"cast {{here}}/answers_right.txt {_HALF}", EQUAL, (), ("5 inputs",)),
    Row(
        "cast-vectors-read_as_float32",
        "cast {here}/answers_right.txt --format float8_e5m2 --mode nearest_even",
        DIFFERENT,
        (UNEXPLAINED,),
        ("note: no input has more than 16 bits, and float32 has 32",),
    ),
    _cast("nan_negative", "--format float8_e5m2 --nan 0xfe", EQUAL),
    Row(
        "cast-undeclared_away",
        "cast {here}/casts.py:ties_away --format float8_e5m2",
        EQUAL,
        (),
        ("mode nearest away; rounds once", "It equals no preset", "equal to one rounding, nearest_away"),
    ),
    # ties
    _cast("ties_away", _E5M2, DIFFERENT, "rounded as nearest_away", prints=("tie:",)),
    _cast("ties_to_zero", _E5M2, DIFFERENT, "rounded as nearest_zero", prints=("tie:",)),
    _cast("ties_upward", _E5M2, DIFFERENT, UNEXPLAINED, prints=("tie:",)),
    # other roundings
    _cast("downward", _BFLOAT16, DIFFERENT, "rounded as down"),
    _cast("to_odd", _HALF, DIFFERENT, "rounded as to_odd"),
    _cast("negative_truncated", _E5M2, DIFFERENT, UNEXPLAINED, prints=("neighbour of smaller magnitude",)),
    _cast("results_flushed", _FLOAT16, DIFFERENT, "results below the smallest normal number become zero"),
    _cast("inputs_flushed", _FLOAT16, DIFFERENT, "inputs below the smallest normal number become zero"),
    _cast("subnormals_unrounded", _FLOAT16, DIFFERENT, UNEXPLAINED, prints=("comes back unrounded",)),
    _cast("carry_lost", _HALF, DIFFERENT, "the carry from the significand into the exponent is lost"),
    _cast(
        "via_float16",
        "--format float8_e4m3fn --mode nearest_even",
        DIFFERENT,
        "x is rounded to nearest even to float16",
    ),
    _cast("via_bfloat16", _E5M2, DIFFERENT, "x is rounded to nearest even to bfloat16"),
    _cast(
        "via_float32",
        "--format float8_e4m3fn --source float64 --mode nearest_even",
        DIFFERENT,
        "x is rounded to nearest even to float32",
    ),
    _cast(
        "without_sticky",
        "--format float8_e4m3fn --mode nearest_even",
        DIFFERENT,
        "bits beyond bfloat16 are dropped before rounding, without a sticky bit",
    ),
    # the ends of the range
    _cast("e4m3fn_overflowing", "--format float8_e4m3fn --preset ocp_saturate", DIFFERENT, "overflow infinity"),
    _cast("saturating", _E5M2, DIFFERENT, "overflow saturate_propagate", never=("infinity:",)),
    _cast("early_overflow", _FLOAT16, DIFFERENT, UNEXPLAINED, prints=("overflow_edge:",)),
    _cast("infinity_to_largest", _E5M2, DIFFERENT, "infinity becomes the largest number", never=("overflow_edge:",)),
    _cast("nan_to_zero", _E5M2, DIFFERENT, "NaN becomes +0"),
    _cast("nan_rounded", _BFLOAT16, DIFFERENT, UNEXPLAINED, prints=("nan:",), never=_NEVER_NAN),
    Row(
        "cast-nan_code",
        f"cast {{here}}/casts.py:nan_negative {_E5M2} --nan canonical",
        DIFFERENT,
        (UNEXPLAINED,),
        ("nan_code:", "0xfe where 0x7e"),
    ),
    _cast(
        "zero_without_sign",
        _E5M2,
        DIFFERENT,
        "-0 becomes +0, but a negative underflow gives -0",
        prints=("sign_of_zero: 1 ",),
    ),
    _cast("ties_away_and_nan_to_zero", _E5M2, DIFFERENT, "rounded as nearest_away", "NaN becomes +0"),
    _cast(
        "subnormals_truncated",
        _FLOAT16,
        DIFFERENT,
        "rounded as toward_zero, but only below the smallest normal number",
    ),
    _cast("code_wraps", _E5M2, DIFFERENT, UNEXPLAINED, prints=("overflow_edge:",), never=("rounding:", "infinity: ")),
    # a few inputs
    _cast("one_wrong_entry", _E5M2, DIFFERENT, UNEXPLAINED),
    _cast("one_wrong_input", _HALF, DIFFERENT, UNEXPLAINED, prints=("on 1 input:",)),
    _cast("tail_truncated", _E5M2, DIFFERENT, prints=("depends on the length of the array or on the place in it",)),
    Row(
        "cast-one_short",
        f"cast {{built}}/native.so:one_short --header {{here}}/native.c {_BFLOAT16}",
        DIFFERENT,
        (UNEXPLAINED,),
        ("depends on the length of the array or on the place in it",),
    ),
    *(
        _cast(name, _E5M2, DIFFERENT, prints=("depends on the length of the array or on the place in it",))
        for name in ("tail_infinity", "first_ties_away", "one_ties_away")
    ),
    Row(
        "cast-zeros_left_out",
        f"cast {{built}}/native.so:zeros_left_out --header {{here}}/native.c {_BFLOAT16}",
        DIFFERENT,
        (UNEXPLAINED,),
        ("on 2 inputs:", "smallest input 0.0"),
    ),
    Row(
        "cast-scaled_by_2",
        f"cast {{built}}/native.so:scaled --header {{here}}/native.c --argument scale=2.0 {_BFLOAT16}",
        DIFFERENT,
        (UNEXPLAINED,),
    ),
    Row(
        "cast-flushing",
        f"cast {{built}}/flushing.so:cast --header {{here}}/flushing.c {_BFLOAT16}",
        DIFFERENT,
        ("results below the smallest normal number become zero",),
        ("the subject sets flush-to-zero and denormals-are-zero for its whole process",),
    ),
    Row(
        "cast-two_answers",
        f"cast {{here}}/answers_two.txt {_HALF}",
        DIFFERENT,
        (UNEXPLAINED,),
        ("on 1 input:", "more than one answer: 0x3c00"),
    ),
    # stochastic
    _cast(
        "stochastic_eight_bits",
        _GIVEN,
        DIFFERENT,
        "8 bits: of the 16 low bits of a word only the high 8 decide",
        prints=("trials differ",),
    ),
    _cast("stochastic_tail_truncated", _GIVEN, DIFFERENT, UNEXPLAINED, prints=("trials differ",)),
    _cast(
        "stochastic_biased",
        _OWN,
        DIFFERENT,
        "the first random bit is always 0",
        prints=("up in 0.00%",),
        never=("answered differently", "neither of the two neighbours"),
    ),
    _cast(
        "stochastic_without_a_binade",
        _OWN,
        DIFFERENT,
        UNEXPLAINED,
        prints=("4,096 numbers from 4", "4,096 numbers from -4"),
    ),
    _cast(
        "stochastic_slightly_biased", _OWN, DIFFERENT, UNEXPLAINED, prints=("numbers from ",), never=("4,096 numbers",)
    ),
    _cast(
        "stochastic_away",
        _OWN,
        DIFFERENT,
        UNEXPLAINED,
        prints=("inputs that no random bit decides are answered differently",),
    ),
    # no answers
    _fails("cast", "random_ties", _E5M2, "differently in equal calls", file="casts.py"),
    _fails("cast", "right_once", _E5M2, "differently in equal calls", file="casts.py"),
    _fails("cast", "codes_too_wide", _E5M2, "codes of float8_e5m2 are 0 to 0xff", file="casts.py"),
    _fails("cast", "one_answer_less", _E5M2, "answered shape", file="casts.py"),
    _fails("cast", "truth_values", _E5M2, "answers bool", file="casts.py"),
    _fails("cast", "two_arrays", _E5M2, "answers 2 arrays", file="casts.py"),
    _fails("cast", "refuses_nan", _E5M2, "failed: NaN is not supported (ValueError)", file="casts.py"),
    _fails("cast", "exits", _E5M2, "ended its process (exit code 0) instead of answering"),
    _fails("cast", "exits_at_once", _E5M2, "ended its process (exit code 0) instead of answering"),
    _fails("cast", "aborts", _E5M2, "crashed: its process ended with SIGABRT"),
    _fails("cast", "segfaults", _E5M2, "crashed: its process ended with SIGSEGV"),
    _fails("cast", "is_killed", _E5M2, "crashed: its process ended with SIGKILL"),
    _fails("cast", "hangs", f"{_E5M2} --timeout 0.5", "gave no answer within 0.5 s"),
    _fails("cast", "floods", _E5M2, "printed more than 16 MiB"),
    _fails("cast", "answers_gigabytes", _E5M2, "answers 2,147,483,648 bytes"),
    _fails("cast", "interrupts", _E5M2, "its process ended with SIGINT"),
    _fails("cast", "closes_files", _E5M2, "ended its process"),
    _fails("cast", "wants_too_much", _E5M2, "failed:"),
    Row(
        "cast-import_hangs",
        f"cast {{here}}/hangs_when_imported.py:cast {_E5M2} --timeout 0.5",
        UNDECIDED,
        (),
        ("gave no answer within 0.5 s",),
    ),
    Row(
        "cast-import_exits",
        f"cast {{here}}/exits_when_imported.py:cast {_E5M2}",
        UNDECIDED,
        (),
        ("ended its process (exit code 3)",),
    ),
    Row(
        "cast-native_crash",
        f"cast {{built}}/native.so:crashes --header {{here}}/native.c {_BFLOAT16}",
        UNDECIDED,
        (),
        ("SIGSEGV",),
    ),
    Row(
        "cast-scale_not_given",
        f"cast {{built}}/native.so:scaled --header {{here}}/native.c {_BFLOAT16}",
        UNDECIDED,
        (),
        ("--argument scale=1.0",),
    ),
    *(
        Row(f"cast-by_mode-{i}", f"cast {_BY_MODE} {arguments} {_BFLOAT16}", UNDECIDED, (), (words,))
        for i, (arguments, words) in enumerate(
            (
                ("--argument mode=1.5", "rounding cannot hold mode=1.5"),
                ("--argument mode=0x300000003", "rounding cannot hold mode=0x300000003"),
                ("--argument mode=3 --argument mode=0", "mode is given twice"),
            )
        )
    ),
    Row(
        "cast-program_short",
        f"cast 'command:{{python}} {{here}}/simulator.py short' {_HALF}",
        UNDECIDED,
        (),
        ("answered 32768 lines to 65536",),
    ),
    Row(
        "cast-program_decimal",
        f"cast 'command:{{python}} {{here}}/simulator.py decimal' {_HALF}",
        UNDECIDED,
        (),
        ("hex digits",),
    ),
)


def _dot(name: str, options: str, verdict: Verdict, *causes: str, **words: tuple[str, ...]) -> Row:
    """A function of products.py, in products of 40 k."""
    command = f"dot {{here}}/products.py:{name} --length 40 {options}".rstrip()
    return Row(f"dot-{name}", command, verdict, causes, **words)


_LOOP = "sequential,format=float32,chunk=none,fma=false"
_NO_ORDER = ("another order", "the order depends")
_BY_PLACE = "different: a sum depends on where its row and column are in the matrices"


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
    _policy("infinity_to_nan", 0, f"{_E5M2} --overflow saturate --infinity nan", EQUAL),
    _policy("infinity_to_nan", 1, f"{_E5M2} --overflow saturate", DIFFERENT, "infinity becomes NaN"),
    _policy("upper_byte", 0, f"{_UPPER} --nan truncated", EQUAL),
    _policy("upper_byte", 1, _UPPER, DIFFERENT, _TRUNCATED_NAN),
    _policy("zeros_positive", 0, f"{_E5M2} --zero positive", EQUAL),
    _policy("zeros_positive", 1, _E5M2, DIFFERENT, "every zero is +0"),
    _policy("never_zero", 0, f"{_E5M2} --underflow smallest", EQUAL),
    _policy("nan_to_zero", 0, f"{_E5M2} --nan zero", EQUAL),
    _policy("e5m2", 0, f"{_E5M2} --nan zero", DIFFERENT, "NaN stays NaN"),
    _policy("zero_without_sign", 0, f"{_E5M2} --zero positive_input", EQUAL),
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
    _integer("bfloat16_of_integers", f"{_BFLOAT16} --source int64", EQUAL),
    _integer("bfloat16_of_integers", f"{_BFLOAT16} --source int8", EQUAL, number=1, prints=("every input",)),
    _integer("decoded", _CODES, EQUAL, prints=("equal in every bit",)),
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
            "bfloat16_through_float32", f"{_BFLOAT16} --source {source}", DIFFERENT,
            "x is rounded to nearest even to float32", number=number,
        )
        for number, source in enumerate(("int64", "uint32"))
    ),
    _integer(
        "float32_through_float64", "--format float32 --mode nearest_even --source int64", DIFFERENT,
        "x is rounded to nearest even to float64",
    ),
    _integer("float16_of_signed", f"{_FLOAT16} --source uint8", DIFFERENT, UNEXPLAINED, prints=("on 128 inputs",)),
    _integer("decoded_flushed", _CODES, DIFFERENT, number=1, prints=("subnormal operands are read as zero",)),
    _integer(
        "decoded_flushed", f"{_CODES} --nan any", DIFFERENT, "subnormal inputs are taken as zero", number=2,
        prints=("subnormal_input: 14 ",),
    ),
    _integer("decoded_as_fnuz", _CODES, DIFFERENT, prints=("codes of float8_e4m3fn are read as float8_e4m3fnuz",)),
    # no answers
    _integer("int8_in_a_column", _INT8, UNDECIDED, prints=("answered shape",)),
    _integer("int8_even", "--format int8 --preset vax", UNDECIDED, number=3, prints=("unknown preset 'vax'",)),
    _integer("int8_even", f"{_INT8} --zero positive", UNDECIDED, number=4, prints=("--zero cannot be used",)),
)  # fmt: skip

DOTS = (
    # right
    _dot("sequential", "", EQUAL, prints=(f"equal to {_LOOP} on all probes",)),
    Row(
        "dot-declared",
        "dot {here}/products.py:sequential --length 40 --accumulator chunk=none,fma=false",
        EQUAL,
        (),
        (f"equal to the declared accumulator {_LOOP}",),
    ),
    _dot("fused", "", EQUAL, prints=("equal to sequential,format=float32,chunk=none,fma=true on all probes",)),
    _dot("chunks_of_8", "", EQUAL, prints=("equal to sequential,format=float32,chunk=8,fma=false on all probes",)),
    _dot("in_pairs", "", EQUAL, prints=("equal to pairwise",)),
    _dot("exact", "", EQUAL, prints=("equal to exact",)),
    _dot("as_float64", "", EQUAL, prints=(f"equal to {_LOOP} on all probes",)),
    _dot("column_major", "", EQUAL, prints=(f"equal to {_LOOP} on all probes",)),
    _dot("rounded_to_bfloat16", "--inputs bfloat16", EQUAL, prints=("then rounded once to bfloat16",)),
    _dot("rounded_to_float16", "--accumulator chunk=none,fma=false", EQUAL, prints=("then rounded once to float16",)),
    _dot(
        "volta",
        "--inputs float16 --accumulator volta_float16",
        EQUAL,
        prints=("equal to the declared accumulator", "volta_float16"),
    ),
    _dot(
        "hopper",
        "--inputs float8_e4m3fn",
        EQUAL,
        prints=("(hopper_float8_e4m3fn)", "13 bits below the largest exponent"),
    ),
    _dot("in_float16", "--inputs float16", EQUAL, prints=("equal to sequential,format=float16,chunk=none",)),
    Row(
        "dot-tf32_given",
        "dot {here}/products.py:operands_in_tf32 --length 40 --inputs tf32",
        EQUAL,
        (),
        ("equal to sequential,format=float32,chunk=none",),
    ),
    Row(
        "dot-native",
        "dot {built}/native.so:in_order --header {here}/native.c --length 40",
        EQUAL,
        (),
        (f"equal to {_LOOP}",),
    ),
    # orders that no accumulator has
    _dot(
        "eight_lanes",
        "",
        EQUAL,
        prints=("tail(8, groups(lanes(8), rising(), folding()), rising(start=first))",),
    ),
    _dot("even_then_odd", "", EQUAL, prints=("products=float32, order=groups(lanes(2), rising(), ",)),
    _dot(
        "falling",
        "",
        EQUAL,
        prints=("product(products=float32, order=reordered(descending(), rising()))",),
        never=("what comes later in k is added later",),
    ),
    _dot(
        "four_splits_in_bfloat16",
        "--inputs bfloat16",
        EQUAL,
        prints=("groups(splits(4), groups(whole(), rising(), rising(bfloat16, first)), rising(bfloat16, first))",),
    ),
    _dot("compensated", "", DIFFERENT, UNEXPLAINED),
    Row(
        "dot-native_lanes",
        "dot {built}/native.so:four_lanes --header {here}/native.c --length 40",
        EQUAL,
        prints=("products=float32, order=groups(lanes(4), rising(), folding())",),
    ),
    _dot("four_splits", "", EQUAL, prints=("order=groups(splits(4), rising(), rising(start=first))",)),
    # arithmetic that no accumulator has
    _dot("sums_cut", "", DIFFERENT, UNEXPLAINED),
    _dot("output_cut", "--inputs bfloat16", DIFFERENT, UNEXPLAINED),
    _dot(
        "in_float64",
        "",
        EQUAL,
        prints=("equal to rising(float64)",),
    ),
    _dot("products_in_bfloat16", "", DIFFERENT, UNEXPLAINED),
    _dot("operands_in_tf32", "", EQUAL, prints=("operand(tf32, nearest_away)",)),
    # another accumulator than the declared one
    Row(
        "dot-not_fused",
        "dot {here}/products.py:sequential --length 40 --accumulator chunk=none,fma=true",
        DIFFERENT,
        (),
        (f"equal to {_LOOP} on all probes", "different from the declared accumulator"),
    ),
    Row(
        "dot-chunk_of_8",
        "dot {here}/products.py:chunks_of_8 --length 40 --accumulator chunk=16,fma=false",
        DIFFERENT,
        (),
        ("chunk=8,fma=false on all probes", "different from the declared accumulator"),
    ),
    _dot(
        "hopper_12_bits",
        "--inputs float8_e4m3fn --accumulator hopper_float8_e4m3fn",
        DIFFERENT,
        prints=("different from the declared accumulator", "12 bits below the largest exponent", "32 consecutive k"),
        never=("13 bits",),
    ),
    # terms, numbers and shapes that are wrong
    _dot("last_left_out", "", DIFFERENT, UNEXPLAINED, never=_NO_ORDER),
    _dot(
        "last_of_odd_left_out",
        "",
        DIFFERENT,
        prints=("for K = 40 equal to", "for K = 39, 33, 3, 1 not"),
        never=_NO_ORDER,
    ),
    _dot(
        "padded_with_ones", "", DIFFERENT, prints=("for K = 40 equal to", "for K = 39, 33, 3, 1 not"), never=_NO_ORDER
    ),
    _dot("biased", "", DIFFERENT, UNEXPLAINED, prints=("this is not a dot product",)),
    _dot("zeros", "", DIFFERENT, UNEXPLAINED, prints=("this is not a dot product",)),
    _dot("nan_dropped", "", DIFFERENT, UNEXPLAINED, prints=("(different: specials",), never=("K = 1): expected",)),
    _dot("infinity_clipped", "", DIFFERENT, UNEXPLAINED),
    _dot("subnormals_flushed", "", DIFFERENT, UNEXPLAINED),
    _dot(
        "operands_flushed", "", EQUAL, prints=("product(operand(flush=true), operand(flush=true), float32, rising())",)
    ),
    Row(
        "dot-flushing",
        "dot {built}/flushing.so:in_order --header {here}/flushing.c --length 40",
        EQUAL,
        (),
        ("the subject sets flush-to-zero and denormals-are-zero", "sums(flush=true), rising(sums(flush=true))"),
    ),
    _dot("first_copied", "", EQUAL, prints=("product(products=float32, order=rising(start=first))",)),
    _dot("few_rows_in_halves", "", DIFFERENT, prints=("depend on the shape", "another order for fewer than 8 rows")),
    _dot(
        "one_row_without_last", "", DIFFERENT, prints=("depend on the shape", "for fewer than 2 rows"), never=_NO_ORDER
    ),
    _dot("one_row_fused", "", DIFFERENT, prints=("depend on the shape", "for fewer than 2 rows"), never=_NO_ORDER),
    _dot(
        "others_where_not_square",
        "",
        DIFFERENT,
        prints=("depend on the shape", "another order for matrices that are not square", "reordered(descending(), "),
        never=("fewer than",),
    ),
    _dot("square_transposed", "", DIFFERENT, UNEXPLAINED, never=_NO_ORDER),
    _dot("third_row_twice", "", DIFFERENT, UNEXPLAINED, prints=(_BY_PLACE,), never=(*_NO_ORDER, "partner:")),
    _dot("last_left_out_beyond_32", "", DIFFERENT, prints=(_BY_PLACE, "of a product of 40 x 40"), never=_NO_ORDER),
    # no answers
    _fails("dot", "random_order", "--length 40", "differently in equal calls", file="products.py"),
    _fails("dot", "whole_numbers", "--length 40", "answered int32", file="products.py"),
    _fails("dot", "one_row_less", "--length 40", "answered shape", file="products.py"),
    _fails("dot", "refuses_one_row", "--length 40", "failed: use a product of a vector", file="products.py"),
    _fails("dot", "segfaults", "--length 40", "crashed: its process ended with SIGSEGV"),
    _fails("dot", "exits", "--length 40", "ended its process (exit code 0)"),
    _fails("dot", "hangs", "--length 40 --timeout 0.5", "gave no answer within 0.5 s"),
)


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
    _fails("blocks", "one_scale_for_all", _MXFP8, "answers some blocks otherwise among", file="quantisers.py"),
    _fails("blocks", "random_elements", _MXFP4, "differently in equal calls", file="quantisers.py"),
    _fails("blocks", "segfaults", _MXFP8, "crashed: its process ended with SIGSEGV", file="quantisers.py"),
    _fails("blocks", "scales_only", _MXFP4, "expected floats", file="quantisers.py"),
    _fails("blocks", "exits_at_once", _MXFP8, "ended its process (exit code 0)"),
)


def _scales(name: str, options: str, verdict: Verdict, *causes: str, **words: tuple[str, ...]) -> Row:
    """A function of scales.py."""
    row = _blocks(name, options, verdict, *causes, **words)
    form = options.split("--format ")[1].split()[0].strip("'")
    return row._replace(name=f"{row.name}-{form}", command=row.command.replace("quantisers.py", "scales.py"))


_TILES = "--format 'quantizer(statistic(tile(4, 32)), scale(arithmetic=float32), quotient(float32))'"
_FP8, _DECODE8 = "--format fp8_1x128", "--decode --format mxfp8_e4m3"
_RECIPROCAL = "quotients by a float32 reciprocal"

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
    # wrong, with a cause
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
    _scales("te_own", "--format te_nvfp4_stochastic", UNDECIDED, prints=("give it a mode without random bits",)),
    _scales("fp8_tensor", "--format te_float8_e4m3_delayed", UNDECIDED, prints=("pass statistic",)),
)  # fmt: skip


def _step(name: str, how: str, verdict: Verdict, *causes: str, **words: tuple[str, ...]) -> Row:
    """A file of steps.py: ``how`` is "direct", "replayed", or "both", where the two have one answer."""
    ours = "plain" if name.startswith("plain_") else "ours"
    command = f"step {{steps}}/{name}.npz --against {{steps}}/{ours}.npz"
    replayed = " --teacher-forced --model {here}/network.py:build --threads 1" if how == "replayed" else ""
    return Row(f"step-{name}-{how}", command + replayed, verdict, causes, **words)


def _update(name: str, cause: str) -> tuple[Row, Row]:
    """A wrong update: nothing else differs, directly or replayed."""
    return (
        _step(name, "direct", DIFFERENT, cause, prints=("4 differ", "first to differ: next_master/1/0")),
        _step(name, "replayed", DIFFERENT, cause, prints=("4 otherwise", "next_master/1/0", "next_master/3/1")),
    )


_AS_SUMS = ("0 otherwise",)

STEPS = (
    # right
    _step("same", "direct", EQUAL, prints=("50 tensors, 0 differ",)),
    _step("same", "replayed", EQUAL, prints=_AS_SUMS),
    _step("float64", "direct", EQUAL, prints=("49 tensors, 0 differ",)),
    _step("float64", "replayed", EQUAL, prints=_AS_SUMS),
    _step("numpy", "replayed", EQUAL, prints=_AS_SUMS),
    _step("numpy", "direct", DIFFERENT, prints=("first to differ: ",)),
    _step("stored_alone", "replayed", EQUAL, prints=(*_AS_SUMS, "the update was not looked at")),
    _step("negative_zeros", "replayed", EQUAL, prints=(*_AS_SUMS, "1 equal but for signs of zeros")),
    _step("update_in_float64", "replayed", EQUAL, prints=_AS_SUMS),
    _step("decay_apart", "replayed", EQUAL, prints=_AS_SUMS),
    _step("decay_apart", "direct", DIFFERENT, UNEXPLAINED, prints=("first to differ: next_master/",)),
    _step("negative_zeros", "direct", DIFFERENT, UNEXPLAINED, prints=("differ in the sign of zero",)),
    _step("plain_same", "direct", EQUAL, prints=("0 differ",)),
    _step("plain_numpy", "replayed", EQUAL, prints=_AS_SUMS),
    _step("plain_sums_in_bfloat16", "replayed", DIFFERENT, UNEXPLAINED, prints=("GX/3/0",)),
    _step("plain_output_in_bfloat16", "replayed", DIFFERENT, UNEXPLAINED, prints=("1 otherwise", "Y/1/0")),
    _step(
        "plain_half_gradient",
        "replayed",
        DIFFERENT,
        "about 0.5 times what it should be",
        prints=("1 otherwise", "GP/3/0"),
    ),
    # updates
    *_update("masters_rounded", "the master is rounded to bfloat16"),
    *_update("not_updated", "not updated: the master is as it was before the step"),
    *_update("without_decay", "without weight decay"),
    *_update("without_momentum", "without momentum"),
    *_update("not_unscaled", "the gradient is not divided by the loss scale"),
    *_update("half_rate", "the learning rate is 0.05 instead of 0.1"),
    *_update("nesterov", "Nesterov's momentum"),
    *_update("from_rounded", "it starts from the rounded parameter, not from the master"),
    _step("one_master", "direct", DIFFERENT, UNEXPLAINED, prints=("1 differ", "next_master/3/0", "1 of 1080 differ")),
    _step(
        "one_master", "replayed", DIFFERENT, UNEXPLAINED, prints=("1 otherwise", "next_master/3/0", "1 of 1080 differ")
    ),
    # numbers
    _step(
        "one_gradient",
        "direct",
        DIFFERENT,
        UNEXPLAINED,
        prints=("1 differ", "first to differ: GP/3/0", "by up to 1 code"),
    ),
    _step(
        "one_gradient",
        "replayed",
        DIFFERENT,
        UNEXPLAINED,
        prints=("GP/3/0 (Linear linear, bfloat16): 1 of 1080 differ, by up to 1 code",),
    ),
    *(
        _step(f"one_bias_{i}", "replayed", DIFFERENT, UNEXPLAINED, prints=("GP/1/1 (Conv2d conv, bfloat16): 1 of 3",))
        for i in range(3)
    ),
    _step(
        "one_output", "direct", DIFFERENT, UNEXPLAINED, prints=("1 differ", "first to differ: Y/3/0", "by up to 1 code")
    ),
    _step(
        "one_output",
        "replayed",
        DIFFERENT,
        UNEXPLAINED,
        prints=("Y/3/0 (Linear linear, float8_e4m3fn): 1 of 40 differ",),
    ),
    _step(
        "nan_gradient", "direct", DIFFERENT, UNEXPLAINED, prints=("first to differ: GP/3/0", "a NaN against a number")
    ),
    _step(
        "nan_gradient",
        "replayed",
        DIFFERENT,
        "updated although a gradient of the step is not finite",
        prints=("GP/3/0", "a NaN against a number"),
    ),
    _step("nan_output", "replayed", DIFFERENT, UNEXPLAINED, prints=("Y/1/0", "a NaN against a number")),
    # ops
    _step(
        "output_truncated",
        "replayed",
        DIFFERENT,
        "explained by mode toward_zero instead of nearest_even",
        prints=("1 otherwise", "Y/1/0"),
    ),
    _step("parameters_stale", "replayed", DIFFERENT, UNEXPLAINED, prints=("4 otherwise", "P/1/0")),
    _step(
        "parameters_unrounded",
        "replayed",
        DIFFERENT,
        "not rounded: this is the float32 result",
        prints=("4 otherwise", "P/1/0", "P/3/1"),
    ),
    _step(
        "mask_of_neighbour",
        "replayed",
        DIFFERENT,
        UNEXPLAINED,
        prints=("1 otherwise", "GX/2/0", "should be zero and are not"),
    ),
    _step("sums_in_bfloat16", "replayed", DIFFERENT, UNEXPLAINED, prints=("1 otherwise", "GX/3/0")),
    _step("loss_twice", "replayed", DIFFERENT, prints=("1 otherwise", "GX/5/0")),
    _step("unrounded_softmax", "replayed", DIFFERENT, UNEXPLAINED, prints=("1 otherwise", "GX/4/0")),
    _step(
        "half_gradient", "replayed", DIFFERENT, "about 0.5 times what it should be", prints=("1 otherwise", "GP/3/0")
    ),
    _step("bias_of_one_image", "replayed", DIFFERENT, UNEXPLAINED, prints=("1 otherwise", "GP/3/1")),
    # settings
    _step("scale_of_1", "replayed", DIFFERENT, UNEXPLAINED, prints=("loss scale 1 ", "GX/5/0")),
    _step("labels_rolled", "replayed", DIFFERENT, UNEXPLAINED, prints=("GX/5/0",), never=("next_master/",)),
    # other things
    *(
        _step(name, how, UNDECIDED, prints=words)
        for name, words in (
            ("weights_transposed", ("P/3/0", "(10, ")),
            ("gradient_whole", ("GP/3/0 is of type int64",)),
            ("labels_in_float32", ("labels is of type float32",)),
        )
        for how in ("direct", "replayed")
    ),
    _step("no_scale", "replayed", UNDECIDED, prints=("loss_scale is one number above 0, got []",)),
    # too little
    _step("one_tensor_less", "direct", UNDECIDED, prints=("too little compared", "GX/3/0")),
    _step("one_tensor_less", "replayed", UNDECIDED, prints=("GX/3/0",)),
    _step("inputs_alone", "direct", UNDECIDED, prints=("nothing compared",)),
    _step(
        "inputs_alone", "replayed", UNDECIDED, prints=("no tensor Y/0/0", "it has images, labels"), never=("master/",)
    ),
    _step("outputs_alone", "direct", UNDECIDED, prints=("too little compared",)),
    _step("other_names", "direct", UNDECIDED, prints=("share no tensor of a step",)),
    _step("other_batch", "direct", UNDECIDED, prints=("Y/3/0 has shape (2, 10)",)),
    _step("broken", "direct", UNDECIDED, prints=("not a complete npz archive",)),
)

ROWS = (*CASTS, *STOCHASTIC, *P3109, *POLICIES, *INTEGERS, *DOTS, *BLOCKS, *SCALES, *STEPS)
