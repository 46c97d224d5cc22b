"""A model directory as it was published: checked before it is trusted, then opened."""
