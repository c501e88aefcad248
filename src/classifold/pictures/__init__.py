"""Reads one picture, always in the same way: its format, its limits, its pixels as RGB."""
