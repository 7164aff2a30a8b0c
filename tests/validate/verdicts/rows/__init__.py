"""The verdict matrix: stand-ins, right and wrong, and what ``mpsim validate`` has to say of each.

The answers were written down from what each stand-in does, not from what mpsim says of it.
"""

from verdicts.rows.blocks import BLOCKS, FORMS, SCALES
from verdicts.rows.casts import CASTS
from verdicts.rows.integers import INTEGERS, POLICIES
from verdicts.rows.products import DOTS
from verdicts.rows.row import DIFFERENT, EQUAL, UNDECIDED, UNEXPLAINED, Row, Verdict
from verdicts.rows.steps import STEPS
from verdicts.rows.stochastic import MORE, P3109, STOCHASTIC

ROWS = (*CASTS, *STOCHASTIC, *MORE, *P3109, *POLICIES, *INTEGERS, *DOTS, *BLOCKS, *SCALES, *FORMS, *STEPS)

__all__ = ["DIFFERENT", "EQUAL", "ROWS", "UNDECIDED", "UNEXPLAINED", "Row", "Verdict"]
