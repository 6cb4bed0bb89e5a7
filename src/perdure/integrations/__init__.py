"""What fits perdure into other programs, on the public API alone; each module needs the extra of its name."""
