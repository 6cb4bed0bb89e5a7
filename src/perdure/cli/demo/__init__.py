"""`perdure demo`: a real multi-query analysis over real monthly closes of five companies."""
