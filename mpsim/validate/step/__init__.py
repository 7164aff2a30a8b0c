"""Training steps recorded, compared and replayed."""
