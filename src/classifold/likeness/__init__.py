"""Which pictures show the same photograph: hashes find candidates, and aligned pixels decide."""
