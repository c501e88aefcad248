"""`classifold predict`: class names and probabilities for pictures, from a finished run."""
