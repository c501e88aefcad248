"""Draws the example's flowers: meshes in space, lit, projected and photographed."""
