"""T2: the negative log-likelihood of every token of a text that is read in windows."""
