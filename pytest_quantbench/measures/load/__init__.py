"""How long a model takes from its files to the first token, in fresh processes, and how much memory that adds."""
