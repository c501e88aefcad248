"""Answers from a finished run: names and probabilities for pictures."""
