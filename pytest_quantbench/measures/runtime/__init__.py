"""A candidate's files, run by what they are made for: its losses on T2's tokens, and how fast it is."""
