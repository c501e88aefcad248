"""One picture, read in one way: what it is, how large it may be, its pixels as RGB."""
