"""How a model is run: one folder for each library that does it, behind one protocol."""
