"""Casts to formats, and ways not to answer."""

from __future__ import annotations

from verdicts.rows.row import (
    BFLOAT16,
    DIFFERENT,
    E5M2,
    EQUAL,
    FLOAT16,
    HALF,
    UNDECIDED,
    UNEXPLAINED,
    Row,
    Verdict,
    fails,
)


def _cast(name: str, options: str, verdict: Verdict, *causes: str, **words: tuple[str, ...]) -> Row:
    """A function of casts.py."""
    return Row(f"cast-{name}", f"cast {{here}}/casts.py:{name} {options}", verdict, causes, **words)


_GIVEN = "--format bfloat16 --mode stochastic --random-bit-count 16 --given-bits"
_OWN = "--format bfloat16 --mode stochastic --random-bit-count 16"
_BY_MODE = "{built}/native.so:by_mode --header {here}/native.c"
_NEVER_NAN = ("NaN becomes infinity", "NaN becomes zero")


CASTS = (
    # right
    _cast("e5m2", E5M2, EQUAL),
    Row(
        "cast-undeclared",
        "cast {here}/casts.py:e5m2 --format float8_e5m2",
        EQUAL,
        (),
        ("rounds once", "equals preset ml_dtypes"),
    ),
    _cast("e4m3fn_saturating", "--format float8_e4m3fn --preset ocp_saturate", EQUAL),
    _cast("bfloat16", BFLOAT16, EQUAL),
    Row("cast-bfloat16_of_float64", f"cast {{here}}/casts.py:bfloat16 {BFLOAT16} --source float64", EQUAL),
    _cast("bfloat16_payload", BFLOAT16, EQUAL, prints=("but for NaN payloads", "--nan payload declares it")),
    Row(
        "cast-payload_declared",
        f"cast {{here}}/casts.py:bfloat16_payload {BFLOAT16} --nan payload",
        EQUAL,
        (),
        (),
        ("but for",),
    ),
    _cast("float16_numbers", FLOAT16, EQUAL),
    _cast("signed_codes", E5M2, EQUAL),
    _cast("as_ml_dtypes", E5M2, EQUAL),
    _cast("big_endian", BFLOAT16, EQUAL),
    _cast("in_place", E5M2, EQUAL),
    _cast("talkative", E5M2, EQUAL),
    _cast("list_of_codes", E5M2, EQUAL),
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
        f"cast {{built}}/native.so:scaled --header {{here}}/native.c --argument scale=1.0 {BFLOAT16}",
        EQUAL,
    ),
    Row("cast-by_mode", f"cast {_BY_MODE} --argument mode=3 --format bfloat16 --mode toward_zero", EQUAL),
    Row("cast-program", f"cast 'command:{{python}} {{here}}/simulator.py right' {HALF}", EQUAL, (), ("every input",)),
    Row("cast-vectors", f"cast {{here}}/answers_right.txt {HALF}", EQUAL, (), ("5 inputs",)),
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
    _cast("ties_away", E5M2, DIFFERENT, "rounded as nearest_away", prints=("tie:",)),
    _cast("ties_to_zero", E5M2, DIFFERENT, "rounded as nearest_zero", prints=("tie:",)),
    _cast("ties_upward", E5M2, DIFFERENT, UNEXPLAINED, prints=("tie:",)),
    # other roundings
    _cast("downward", BFLOAT16, DIFFERENT, "rounded as down"),
    _cast("to_odd", HALF, DIFFERENT, "rounded as to_odd"),
    _cast("negative_truncated", E5M2, DIFFERENT, UNEXPLAINED, prints=("neighbour of smaller magnitude",)),
    _cast("results_flushed", FLOAT16, DIFFERENT, "results below the smallest normal number become zero"),
    _cast("inputs_flushed", FLOAT16, DIFFERENT, "inputs below the smallest normal number become zero"),
    _cast("subnormals_unrounded", FLOAT16, DIFFERENT, UNEXPLAINED, prints=("comes back unrounded",)),
    _cast("carry_lost", HALF, DIFFERENT, "the carry from the significand into the exponent is lost"),
    _cast(
        "via_float16",
        "--format float8_e4m3fn --mode nearest_even",
        DIFFERENT,
        "x is rounded to nearest even to float16",
    ),
    _cast("via_bfloat16", E5M2, DIFFERENT, "x is rounded to nearest even to bfloat16"),
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
    _cast("saturating", E5M2, DIFFERENT, "overflow saturate_propagate", never=("infinity:",)),
    _cast("early_overflow", FLOAT16, DIFFERENT, UNEXPLAINED, prints=("overflow_edge:",)),
    _cast("infinity_to_largest", E5M2, DIFFERENT, "infinity becomes the largest number", never=("overflow_edge:",)),
    _cast("nan_to_zero", E5M2, DIFFERENT, "NaN becomes +0"),
    _cast("nan_rounded", BFLOAT16, DIFFERENT, UNEXPLAINED, prints=("nan:",), never=_NEVER_NAN),
    Row(
        "cast-nan_code",
        f"cast {{here}}/casts.py:nan_negative {E5M2} --nan canonical",
        DIFFERENT,
        (UNEXPLAINED,),
        ("nan_code:", "0xfe where 0x7e"),
    ),
    _cast(
        "zero_without_sign",
        E5M2,
        DIFFERENT,
        "-0 becomes +0, but a negative underflow gives -0",
        prints=("sign_of_zero: 1 ",),
    ),
    _cast("ties_away_and_nan_to_zero", E5M2, DIFFERENT, "rounded as nearest_away", "NaN becomes +0"),
    _cast(
        "subnormals_truncated",
        FLOAT16,
        DIFFERENT,
        "rounded as toward_zero, but only below the smallest normal number",
    ),
    _cast("code_wraps", E5M2, DIFFERENT, UNEXPLAINED, prints=("overflow_edge:",), never=("rounding:", "infinity: ")),
    # a few inputs
    _cast("one_wrong_entry", E5M2, DIFFERENT, UNEXPLAINED),
    _cast("one_wrong_input", HALF, DIFFERENT, UNEXPLAINED, prints=("on 1 input:",)),
    _cast("tail_truncated", E5M2, DIFFERENT, prints=("depends on the length of the array or on the place in it",)),
    Row(
        "cast-one_short",
        f"cast {{built}}/native.so:one_short --header {{here}}/native.c {BFLOAT16}",
        DIFFERENT,
        (UNEXPLAINED,),
        ("depends on the length of the array or on the place in it",),
    ),
    *(
        _cast(name, E5M2, DIFFERENT, prints=("depends on the length of the array or on the place in it",))
        for name in ("tail_infinity", "first_ties_away", "one_ties_away")
    ),
    Row(
        "cast-zeros_left_out",
        f"cast {{built}}/native.so:zeros_left_out --header {{here}}/native.c {BFLOAT16}",
        DIFFERENT,
        (UNEXPLAINED,),
        ("on 2 inputs:", "smallest input 0.0"),
    ),
    Row(
        "cast-scaled_by_2",
        f"cast {{built}}/native.so:scaled --header {{here}}/native.c --argument scale=2.0 {BFLOAT16}",
        DIFFERENT,
        (UNEXPLAINED,),
    ),
    Row(
        "cast-flushing",
        f"cast {{built}}/flushing.so:cast --header {{here}}/flushing.c {BFLOAT16}",
        DIFFERENT,
        ("results below the smallest normal number become zero",),
        ("the subject sets flush-to-zero and denormals-are-zero for its whole process",),
    ),
    Row(
        "cast-two_answers",
        f"cast {{here}}/answers_two.txt {HALF}",
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
    fails("cast", "random_ties", E5M2, "differently in equal calls", file="casts.py"),
    fails("cast", "right_once", E5M2, "differently in equal calls", file="casts.py"),
    fails("cast", "codes_too_wide", E5M2, "codes of float8_e5m2 are 0 to 0xff", file="casts.py"),
    fails("cast", "one_answer_less", E5M2, "answered shape", file="casts.py"),
    fails("cast", "truth_values", E5M2, "answers bool", file="casts.py"),
    fails("cast", "two_arrays", E5M2, "answers 2 arrays", file="casts.py"),
    fails("cast", "refuses_nan", E5M2, "failed: NaN is not supported (ValueError)", file="casts.py"),
    fails("cast", "exits", E5M2, "ended its process (exit code 0) instead of answering"),
    fails("cast", "exits_at_once", E5M2, "ended its process (exit code 0) instead of answering"),
    fails("cast", "aborts", E5M2, "crashed: its process ended with SIGABRT"),
    fails("cast", "segfaults", E5M2, "crashed: its process ended with SIGSEGV"),
    fails("cast", "is_killed", E5M2, "crashed: its process ended with SIGKILL"),
    fails("cast", "hangs", f"{E5M2} --timeout 0.5", "gave no answer within 0.5 s"),
    fails("cast", "floods", E5M2, "printed more than 16 MiB"),
    fails("cast", "answers_gigabytes", E5M2, "answers 2,147,483,648 bytes"),
    fails("cast", "interrupts", E5M2, "its process ended with SIGINT"),
    fails("cast", "closes_files", E5M2, "ended its process"),
    fails("cast", "wants_too_much", E5M2, "failed:"),
    Row(
        "cast-import_hangs",
        f"cast {{here}}/hangs_when_imported.py:cast {E5M2} --timeout 0.5",
        UNDECIDED,
        (),
        ("gave no answer within 0.5 s",),
    ),
    Row(
        "cast-import_exits",
        f"cast {{here}}/exits_when_imported.py:cast {E5M2}",
        UNDECIDED,
        (),
        ("ended its process (exit code 3)",),
    ),
    Row(
        "cast-native_crash",
        f"cast {{built}}/native.so:crashes --header {{here}}/native.c {BFLOAT16}",
        UNDECIDED,
        (),
        ("SIGSEGV",),
    ),
    Row(
        "cast-scale_not_given",
        f"cast {{built}}/native.so:scaled --header {{here}}/native.c {BFLOAT16}",
        UNDECIDED,
        (),
        ("--argument scale=1.0",),
    ),
    *(
        Row(f"cast-by_mode-{i}", f"cast {_BY_MODE} {arguments} {BFLOAT16}", UNDECIDED, (), (words,))
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
        f"cast 'command:{{python}} {{here}}/simulator.py short' {HALF}",
        UNDECIDED,
        (),
        ("answered 32768 lines to 65536",),
    ),
    Row(
        "cast-program_decimal",
        f"cast 'command:{{python}} {{here}}/simulator.py decimal' {HALF}",
        UNDECIDED,
        (),
        ("hex digits",),
    ),
)
