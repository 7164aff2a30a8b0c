"""What the contractions of all backends share: their lowering, the four functions, and steps of any order."""
