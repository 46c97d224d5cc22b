"""The MLX engine: a model of mlx-lm's, run decoder layer by decoder layer or whole."""
