"""Measurements. Nothing here is imported by clnn; see README.md."""
