"""Dot products and matrix products."""

from __future__ import annotations

from verdicts.rows.row import DIFFERENT, EQUAL, UNEXPLAINED, Row, Verdict, fails


def _dot(name: str, options: str, verdict: Verdict, *causes: str, **words: tuple[str, ...]) -> Row:
    """A function of products.py, in products of 40 k."""
    command = f"dot {{here}}/products.py:{name} --length 40 {options}".rstrip()
    return Row(f"dot-{name}", command, verdict, causes, **words)


_LOOP = "sequential,format=float32,chunk=none,fma=false"
_NO_ORDER = ("another order", "the order depends")
_BY_PLACE = "different: a sum depends on where its row and column are in the matrices"


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
    _dot("compensated", "", EQUAL, prints=("equal to product(products=float32, order=kahan())",)),
    Row(
        "dot-native_lanes",
        "dot {built}/native.so:four_lanes --header {here}/native.c --length 40",
        EQUAL,
        prints=("products=float32, order=groups(lanes(4), rising(), folding())",),
    ),
    _dot("four_splits", "", EQUAL, prints=("order=groups(splits(4), rising(), rising(start=first))",)),
    # arithmetic that no accumulator has
    _dot("sums_cut", "", DIFFERENT, UNEXPLAINED),
    _dot("output_cut", "--inputs bfloat16", EQUAL, prints=("output=sums(bfloat16, toward_zero))",)),
    _dot(
        "in_float64",
        "",
        EQUAL,
        prints=("equal to rising(float64)",),
    ),
    _dot("products_in_bfloat16", "", EQUAL, prints=("product(products=sums(bfloat16, via=float32), order=rising())",)),
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
    _dot(
        "subnormals_flushed", "", EQUAL, prints=("product(products=float32, order=rising(), output=sums(flush=true))",)
    ),
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
    fails("dot", "random_order", "--length 40", "differently in equal calls", file="products.py"),
    fails("dot", "whole_numbers", "--length 40", "answered int32", file="products.py"),
    fails("dot", "one_row_less", "--length 40", "answered shape", file="products.py"),
    fails("dot", "refuses_one_row", "--length 40", "failed: use a product of a vector", file="products.py"),
    fails("dot", "segfaults", "--length 40", "crashed: its process ended with SIGSEGV"),
    fails("dot", "exits", "--length 40", "ended its process (exit code 0)"),
    fails("dot", "hangs", "--length 40 --timeout 0.5", "gave no answer within 0.5 s"),
)
