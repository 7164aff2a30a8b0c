"""The parts that contractions of all backends share: lowering, the four functions, and steps of any order."""
