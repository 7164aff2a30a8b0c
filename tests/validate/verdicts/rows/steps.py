"""Training steps."""

from __future__ import annotations

from verdicts.rows.row import DIFFERENT, EQUAL, UNDECIDED, UNEXPLAINED, Row, Verdict


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
#: The result of a product, or what is stored of it, is a number of bfloat16.
_TO_BFLOAT16 = "explained by rounding to bfloat16"

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
    _step("plain_sums_in_bfloat16", "replayed", DIFFERENT, _TO_BFLOAT16, prints=("GX/3/0",)),
    _step("plain_output_in_bfloat16", "replayed", DIFFERENT, _TO_BFLOAT16, prints=("1 otherwise", "Y/1/0")),
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
    _step("sums_in_bfloat16", "replayed", DIFFERENT, _TO_BFLOAT16, prints=("1 otherwise", "GX/3/0")),
    _step("loss_twice", "replayed", DIFFERENT, "about 2 times what it should be", prints=("1 otherwise", "GX/5/0")),
    _step("unrounded_softmax", "replayed", DIFFERENT, UNEXPLAINED, prints=("1 otherwise", "GX/4/0")),
    _step(
        "half_gradient", "replayed", DIFFERENT, "about 0.5 times what it should be", prints=("1 otherwise", "GP/3/0")
    ),
    _step("bias_of_one_image", "replayed", DIFFERENT, UNEXPLAINED, prints=("1 otherwise", "GP/3/1")),
    # settings
    _step(
        "scale_of_1",
        "replayed",
        DIFFERENT,
        "about 65536 times what it should be",
        prints=("loss scale 1 ", "GX/5/0", "the gradient is multiplied by 1.52588e-05 before the update"),
    ),
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
    _step("other_names", "direct", EQUAL, prints=("with other names were matched by shape and value",)),
    _step("other_batch", "direct", UNDECIDED, prints=("Y/3/0 has shape (2, 10)",)),
    _step("broken", "direct", UNDECIDED, prints=("not a complete npz archive",)),
)
