"""perdure inside other frameworks. Each package here stands on the public API alone and comes with an extra."""
