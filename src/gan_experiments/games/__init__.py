"""Families of GANs, one a file."""
