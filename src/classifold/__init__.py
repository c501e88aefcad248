"""Classifold: a folder of pictures becomes a trained, measured, explained and served image classifier."""

__version__ = "0.1.0"
