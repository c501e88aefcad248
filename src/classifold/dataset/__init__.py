"""Pictures on the disk: which there are, which set each belongs to, and how they are read."""
