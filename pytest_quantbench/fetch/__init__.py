"""Brings models and texts to this disk, and lets go of them again."""
