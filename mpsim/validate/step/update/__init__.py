"""The optimizer's update as a part of a step: ``next_sum`` and ``next_master`` recomputed from the tensors they depend
on, and causes that explain another one."""

from mpsim.recording.updates import Parts, UpdateRule, parts_of
from mpsim.validate.step.update.check import check_update, compare_update
from mpsim.validate.step.update.rules import StepRules

__all__ = ["Parts", "StepRules", "UpdateRule", "check_update", "compare_update", "parts_of"]
