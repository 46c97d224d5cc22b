"""The tables that a user edits (models, recipes, criteria, corpora, prompts) and the settings of one session."""
