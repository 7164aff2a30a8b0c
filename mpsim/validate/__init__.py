"""Checks whether another implementation is the one that it claims to be, and if not, says where and why.

>>> from mpsim.validate import validate_cast
>>> validate_cast("numpy.float16", source="float64", backend="reference").fingerprint.equal_presets
['numpy']
>>> PRESETS["ocp_saturate"].source
'OCP OFP8 v1.0, conversion table'
>>> TENSOR_CORES["volta_float16"].k
4
"""

from mpsim.files.tensors import TensorFileError
from mpsim.products.tensor_cores import TENSOR_CORES, accumulator_of
from mpsim.recording.steps import StepRecord, record_micro_batches, record_step
from mpsim.validate.answers import SubjectError, Verdict
from mpsim.validate.cast.integers.validation import IntegerReport, validate_integer_cast
from mpsim.validate.cast.presets import PRESETS
from mpsim.validate.cast.rules import Rule
from mpsim.validate.cast.validation import CastReport, validate_cast
from mpsim.validate.dot.results import DotReport
from mpsim.validate.dot.validation import validate_dot
from mpsim.validate.step.replay import TeacherReport, teacher_forced
from mpsim.validate.subjects.casts import Subject, open_subject
from mpsim.validate.subjects.opening import Calling

__all__ = [
    "PRESETS", "TENSOR_CORES", "Calling", "CastReport", "DotReport", "IntegerReport", "Rule", "StepRecord", "Subject",
    "SubjectError", "TeacherReport", "TensorFileError", "Verdict", "accumulator_of", "open_subject",
    "record_micro_batches", "record_step", "teacher_forced", "validate_cast", "validate_dot", "validate_integer_cast",
]  # fmt: skip
