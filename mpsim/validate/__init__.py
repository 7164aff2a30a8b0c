"""For people who check other implementations: is a cast the one it claims to be, and if not, where and why.

>>> from mpsim.validate import validate_cast
>>> validate_cast("numpy.float16", source="float64", backend="reference").fingerprint.equal_presets
['numpy']
"""

from mpsim.validate.adapters import Subject, SubjectError, open_subject
from mpsim.validate.cast import CastReport, validate_cast
from mpsim.validate.dot import DotReport, validate_dot
from mpsim.validate.presets import PRESETS
from mpsim.validate.rules import Rule
from mpsim.validate.steps import StepRecord, record_step
from mpsim.validate.teacher import TeacherReport, teacher_forced
from mpsim.validate.tensor_cores import TENSOR_CORES, accumulator_of
from mpsim.validate.tensor_files import TensorFileError

__all__ = [
    "PRESETS", "TENSOR_CORES", "CastReport", "DotReport", "Rule", "StepRecord", "Subject", "SubjectError",
    "TeacherReport", "TensorFileError", "accumulator_of", "open_subject", "record_step", "teacher_forced",
    "validate_cast", "validate_dot",
]  # fmt: skip
