"""Training: stores that round, optimizer, schedules, loss scale, Trainer, checkpoints."""
