"""Numbers with their uncertainty, from samples alone: no model, no threshold, no file."""
