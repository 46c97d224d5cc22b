"""Makes an artifact of a checkpoint and a recipe: planned, calibrated, encoded, stored, opened."""
