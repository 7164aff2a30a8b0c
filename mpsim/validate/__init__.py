"""For people who check other implementations: is a cast the one it claims to be, and if not, where and why.

>>> from mpsim.validate import validate_cast
>>> validate_cast("numpy.float16", source="float64", backend="reference").fingerprint.equal_presets
['numpy']
"""

from mpsim.validate.adapters import Subject, SubjectError, open_subject
from mpsim.validate.cast import CastReport, validate_cast
from mpsim.validate.presets import PRESETS
from mpsim.validate.rules import Rule

__all__ = ["PRESETS", "CastReport", "Rule", "Subject", "SubjectError", "open_subject", "validate_cast"]
