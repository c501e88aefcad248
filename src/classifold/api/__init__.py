"""The Python API: what `import classifold` offers; each function is a thin layer over the packages below."""
