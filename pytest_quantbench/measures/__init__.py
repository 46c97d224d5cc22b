"""What is measured. Each measure takes an opened artifact, returns raw samples (see samples.py) and judges nothing."""
