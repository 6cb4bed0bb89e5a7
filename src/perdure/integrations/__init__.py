"""What fits perdure into other programs; each module needs the extra of its name."""
