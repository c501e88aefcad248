"""How the example's flowers are drawn: meshes in space, lit, projected and photographed."""
