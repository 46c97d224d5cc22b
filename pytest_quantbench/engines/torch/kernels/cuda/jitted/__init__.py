"""What Triton compiles: functions of arrays in memory, whose arguments have no types that Python knows of."""
