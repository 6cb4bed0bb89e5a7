"""The conformance suite, tried on backends that break one promise each."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import defaultdict
from pathlib import Path

import pytest
from tests.testing.broken_backends import BROKEN

BACKENDS = "tests/testing/broken_backends.py"
Results = dict[str, dict[str, list[bool]]]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Which tests passed: all of the suite on the unbroken backend, on each broken one the test that must notice."""
    report = tmp_path_factory.mktemp("conformance") / "report.xml"
    asked = [f"{BACKENDS}::TestUnbroken", *(f"{BACKENDS}::Test{name}::{test}" for name, test in BROKEN.items())]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--tb=no", "-p", "no:cacheprovider", f"--junitxml={report}", *asked],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout[-2000:] + done.stderr[-2000:]
    results: Results = defaultdict(lambda: defaultdict(list))
    for case in ET.parse(report).iter("testcase"):
        backend = case.get("classname", "").rpartition(".Test")[2]
        passed = case.find("failure") is None and case.find("error") is None and case.find("skipped") is None
        results[backend][case.get("name", "").partition("[")[0]].append(passed)
    return results


def test_a_backend_that_keeps_every_promise_passes_every_test(results: Results) -> None:
    assert len(results["Unbroken"]) > 200
    assert {name for name, passed in results["Unbroken"].items() if not all(passed)} == set()


@pytest.mark.parametrize(("broken", "noticed_by"), BROKEN.items(), ids=BROKEN.keys())
def test_a_broken_promise_is_noticed(results: Results, broken: str, noticed_by: str) -> None:
    assert list(results[broken]) == [noticed_by]
    assert not all(results[broken][noticed_by])
