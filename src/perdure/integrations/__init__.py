"""What fits perdure into other programs. Each stands on the public API alone, and comes with the extra of its name."""
