"""The one entry for whoever works on perdure: `nox -l` lists the sessions."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import nox

nox.options.default_venv_backend = "venv"
nox.options.sessions = ["tests", "lint"]
nox.options.error_on_external_run = True

PROJECT = nox.project.load_toml("pyproject.toml")
PARALLEL = ("-n", "logical", "--maxprocesses", "8", "--dist", "loadgroup")  # each worker may start servers of its own
SHOWN_ELSEWHERE = (
    "tests/backends/postgres/test_pooling.py",
    "tests/backends/postgres/test_state_machine.py",
    "tests/backends/redis/test_cluster_conformance.py",
    "tests/backends/redis/test_server_conformance.py",
    "tests/backends/redis/test_state_machine.py",
    "tests/backends/test_state_machine.py",
    "tests/backends/test_whole_life.py",
    "tests/backends/tiered/real",
    "tests/backends/tiered/test_conformance.py",
    "tests/backends/tiered/test_contract_machine.py",
    "tests/backends/tiered/test_life_machine.py",
    "tests/backends/tiered/test_races.py",
    "tests/docs/test_example_backend.py",
    "tests/protocol",
    "tests/testing/test_conformance_suite.py",
)
"""Tests that run no line which others do not run too; coverage, which would double their time, does without them."""


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests in parallel and demand the coverage; with arguments, run pytest with just those."""
    install(session, "test", "mcp", extra="dev")
    if session.posargs:
        session.run("pytest", *session.posargs)
        return
    data = {"COVERAGE_FILE": str(Path(session.create_tmp()).resolve() / "coverage")} | _mcp_clients(session, "2")
    session.run("coverage", "erase", env=data)
    apart = (f"--ignore={path}" for path in SHOWN_ELSEWHERE)
    session.run("coverage", "run", "-m", "pytest", *PARALLEL, *apart, env=data)
    session.run("pytest", *PARALLEL, *SHOWN_ELSEWHERE)
    session.run("coverage", "combine", "--quiet", env=data)
    session.run("coverage", "report", env=data)


@nox.session
def soak(session: nox.Session) -> None:
    """Run the tests that leave things to chance for longer: more examples, more rounds, longer outages."""
    install(session, "test", extra="dev")
    session.run(
        "pytest", *PARALLEL, "--timeout", "3600", *(session.posargs or ["tests/backends"]), env={"TEST_SOAK": "1"}
    )


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, types, who imports whom, and that the oldest dependencies tested are those promised."""
    install(session, "lint", "test", "mcp", extra="dev")
    check_oldest(session)
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("mypy")
    session.run("lint-imports")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation into `site/`; a warning is an error."""
    install(session, "docs")
    session.run("mkdocs", "build", "--strict", *session.posargs, env={"NO_MKDOCS_2_WARNING": "1"})


@nox.session
def bench(session: nox.Session) -> None:
    """Measure, and write `benchmarks/results.md`."""
    install(session, "test", "mcp", extra="dev")
    session.run("python", "-m", "benchmarks", *session.posargs)


@nox.session
def demo(session: nox.Session) -> None:
    """Run `perdure demo` with the project and nothing else installed; `-- --servers` brings the servers of the kit."""
    install(session, extra="dev" if "--servers" in session.posargs else None)
    session.run("perdure", "demo", *session.posargs)


@nox.session
def matrix(session: nox.Session) -> None:
    """Run tox: every interpreter found here, with the oldest and the newest dependencies."""
    session.install("tox")
    session.run("tox", *session.posargs)


MCP_VERSIONS = {
    "oldest": ["fastmcp[tasks]==3.2.0"],
    "newest-3": ["fastmcp[tasks]>=3.4,<4"],
    "tasks-4": ["fastmcp==4.1.4", "fastmcp-tasks==4.1.4", "ccxt", "yfinance"],
    "plain-1": ["mcp>=1.25,<2"],
    "plain-2": ["mcp>=2,<3"],
}


@nox.session
@nox.parametrize("packages", list(MCP_VERSIONS.values()), ids=list(MCP_VERSIONS))
def mcp_versions(session: nox.Session, packages: list[str]) -> None:
    """Test the MCP integration with other versions of fastmcp, the plain package, background tasks and live sources.

    The official client runs in environments of its own, 1.x and 2.x.
    """
    install(session, "test", extra="dev")
    session.install(*packages)
    clients = _mcp_clients(session, "1", "2") if any("fastmcp" in package for package in packages) else {}
    session.run("pytest", "tests/integrations/mcp", *session.posargs, env=clients)


def _mcp_clients(session: nox.Session, *majors: str) -> dict[str, str]:
    """Tell the tests of interpreters that have the official client of the protocol, and nothing else."""
    found = []
    for major in majors:
        folder = Path(session.create_tmp()).resolve() / f"client-{major}"
        python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
        if not folder.exists():
            session.run("python", "-m", "venv", "--without-pip", str(folder))
        needed = {"1": "mcp>=1.25,<2", "2": "mcp>=2,<3"}[major]
        session.run("python", "-m", "pip", "--python", str(python), "install", "--quiet", needed)
        found.append(str(python))
    return {"TEST_MCP_CLIENTS": os.pathsep.join(found)}


NODE_PACKAGES = (
    "node@22",  # what the Inspector needs at least
    "@modelcontextprotocol/client@2.3.1",
    "@modelcontextprotocol/conformance@0.2.0-alpha.12",
    "@modelcontextprotocol/inspector@2.12.0",
)


@nox.session
def mcp(session: nox.Session) -> None:
    """Try `perdure serve mcp` with the Inspector, the TypeScript client and the conformance suite; needs npm."""
    install(session, "test", "mcp", extra="dev")
    folder = Path(session.create_tmp()).resolve()
    # The scripts are that of node, which fetches its binary, and that of the Inspector, which fetches its web page.
    session.run("npm", "install", "--prefix", str(folder), "--no-audit", "--no-fund", *NODE_PACKAGES, external=True)
    modules = {"TEST_NODE_MODULES": str(folder / "node_modules")}
    session.run("pytest", "tests/integrations/mcp/test_node.py", *session.posargs, env=modules)


@nox.session
def wheel(session: nox.Session) -> None:
    """Build the wheel, install it alone in a fresh environment, and run `perdure demo` there."""
    session.install("build")
    temporary = Path(session.create_tmp()).resolve()
    built, home, environment = temporary / "dist", temporary / "home", temporary / "venv"
    for folder in (built, home, environment):
        if folder.exists():
            session.run("python", "-c", "import shutil, sys; shutil.rmtree(sys.argv[1])", str(folder))
    home.mkdir()
    session.run("python", "-m", "build", "--wheel", "--outdir", str(built))
    session.run("python", "-m", "venv", str(environment))
    scripts = environment / ("Scripts" if os.name == "nt" else "bin")
    (package,) = built.glob("*.whl")
    session.run(str(scripts / "python"), "-m", "pip", "install", "--quiet", str(package), external=True)
    with session.chdir(home):
        session.run(str(scripts / "perdure"), "demo", env=data_under(home), external=True)


def install(session: nox.Session, *groups: str, extra: str | None = None) -> None:
    """Install the project as its users get it, with one of its extras, and the named dependency groups."""
    session.install("." if extra is None else f".[{extra}]", *nox.project.dependency_groups(PROJECT, *groups))


def data_under(home: Path) -> dict[str, str | None]:
    """An environment that keeps user data under `home` on every platform and configures nothing else."""
    unset: dict[str, str | None] = {name: None for name in os.environ if name.startswith("PERDURE_")}
    return unset | {name: str(home) for name in ("HOME", "LOCALAPPDATA", "XDG_DATA_HOME", "XDG_STATE_HOME")}


NOT_OLDEST = ("ccxt", "mcp", "yfinance")
"""Extras whose packages want newer ones than those promised without them; `mcp_versions` tries their oldest."""


def check_oldest(session: nox.Session) -> None:
    """Fail when tox does not pin every lower bound of the dependencies and of the extras."""
    project = PROJECT["project"]
    extras = itertools.chain.from_iterable(
        needed for name, needed in project["optional-dependencies"].items() if name not in NOT_OLDEST
    )
    own = f"{project['name']}["  # one extra that asks for another
    promised = project["dependencies"] + [needed for needed in extras if not needed.startswith(own)]
    tested = PROJECT["tool"]["tox"]["env_run_base"]["deps"]["then"]
    if sorted(pin.replace("==", ">=") for pin in tested) != sorted(promised):
        session.error("tool.tox.env_run_base.deps and the lower bounds in pyproject.toml differ")
