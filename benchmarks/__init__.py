"""Speed of perdure against the bare driver, in the same run. `nox -s bench` writes `results.md`."""
