"""Packing a split into shards: which picture goes where, and the same bytes whoever packs them."""
