"""Real servers for whatever test asks for them."""

pytest_plugins = ["perdure.testing.plugin"]
