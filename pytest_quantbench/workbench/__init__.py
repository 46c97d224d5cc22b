"""For who writes a quantizer: matrices with known statistics, conformance, methods side by side."""
