"""What is measured: every measure returns the raw samples of one artifact, and judges nothing."""
