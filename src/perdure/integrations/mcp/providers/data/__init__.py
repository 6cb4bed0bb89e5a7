"""Packaged prices."""
