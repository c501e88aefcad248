"""Finds the pictures in folders or a listing, and divides them into three sets."""
