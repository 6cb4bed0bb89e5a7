"""Observers that come with perdure; each module needs the extra of its name. They stand on the hooks alone."""
