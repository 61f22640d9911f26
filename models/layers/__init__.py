"""Reusable blocks of the models, one a file."""
