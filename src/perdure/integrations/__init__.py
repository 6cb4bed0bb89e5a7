"""perdure inside other frameworks. Each package here stands on the public API alone and comes with an extra."""
"""What fits perdure into other programs; each module needs the extra of its name."""
