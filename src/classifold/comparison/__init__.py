"""Finished runs side by side: what differs, what it did to the scores, and whether that can be chance."""
