"""Records training steps, of mpsim and of PyTorch, and reads the files. docs/step_files.md has the layout."""

from mpsim.recording.reading import read_step
from mpsim.recording.steps import StepRecord, record_micro_batches, record_step

__all__ = ["StepRecord", "read_step", "record_micro_batches", "record_step"]
