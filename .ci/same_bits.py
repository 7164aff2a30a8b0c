"""Prints digests of what a backend computes, so that machines can be compared: python .ci/same_bits.py BACKEND.

The first lines are of roundings: every float16 and every bfloat16 number, to formats of every kind, in every mode with
every overflow policy, with counts, and the codes. The last lines are of three training steps of small_cnn under each
stored plan: they end in "equal" if the digests are those of reference_models/golden.
"""

import hashlib
import itertools
import sys

import numpy as np

from mpsim import FORMATS, MpsimError, decode, encode, round_to
from mpsim.policies import Mode, Overflow
from reference_models import golden

np.seterr(invalid="ignore")  # of signalling NaNs
PATTERNS = np.arange(1 << 16, dtype=np.uint32)
SOURCES = {
    "float16": PATTERNS.astype(np.uint16).view(np.float16).astype(np.float32),
    "bfloat16": (PATTERNS << 16).view(np.float32),
}
#: Of mpsim.FORMATS, and of the paper and P3109: wide and narrow, signed and not, finite, without zero or subnormals.
TARGETS = [*FORMATS, "fp_4_3_4", "fp_5_2_0", "fp_6_9_0", "p3109_k8p3", "p3109_k8p1u", "p3109_k6p2_finite", "p3109_k4p1"]
WORDS = np.random.Generator(np.random.Philox(1)).integers(0, 1 << 32, PATTERNS.size, dtype=np.uint32)


def sha(*arrays: np.ndarray) -> str:
    """A digest of the arrays' bytes."""
    return hashlib.sha256(b"".join(each.astype(each.dtype.newbyteorder("<")).tobytes() for each in arrays)).hexdigest()


def rounded(x: np.ndarray, target: str, mode: Mode, overflow: Overflow, backend: str) -> str:
    """A digest of the results, their counts and codes, or the name of the error."""
    stochastic = mode.value.startswith("stochastic")
    words = {"random_bits": WORDS} if "stochastic" in mode.value else {}
    words |= {"random_bit_count": 11} if stochastic else {}
    try:
        result, counts = round_to(x, target, mode, overflow, backend=backend, threads=1, counts=True, **words)
        finite = result[np.isfinite(result)]  # some formats have no codes of the others
        codes = encode(finite, target, backend=backend)
        return sha(result, np.array(counts, np.int64), codes, decode(codes, target, backend=backend))
    except MpsimError as error:
        return type(error).__name__


def main(backend: str) -> None:
    """Prints the lines."""
    for source, target in itertools.product(SOURCES, TARGETS):
        for mode, overflow in itertools.product(Mode, Overflow):
            found = rounded(SOURCES[source], target, mode, overflow, backend)
            print(source, target, mode.value, overflow.value, found)
    for case in golden.cases("small_cnn"):
        stored = next(run for run in golden.stored("small_cnn")["runs"] if (run["plan"], run["semantics"]) == case[1:])
        found = golden.compute(case, backend)
        print("small_cnn", case.plan, case.semantics, found["masters"], "equal" if found == stored else "different")


if __name__ == "__main__":
    main(sys.argv[1])
