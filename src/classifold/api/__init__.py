"""The Python API: what `import classifold` offers; each function is a few lines over the rooms below."""
