"""Real servers for every test that asks for one."""

pytest_plugins = ["perdure.testing.plugin"]
