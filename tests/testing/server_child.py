"""A program that starts servers of its own, run as `python server_child.py VERB`: see the verbs at the end."""

from __future__ import annotations

import json
import os
import pwd
import sys
from pathlib import Path

from perdure.testing.servers import PostgresServer, ServerError, ValkeyServer


def start(*, stopped: bool) -> None:
    """Start one of each, tell their ids and folders, and wait for a line, with the Postgres stopped or running."""
    valkey, postgres = ValkeyServer().start(), PostgresServer().start()
    facts = {"pids": [valkey.pid, postgres.pid], "folders": [str(valkey.folder), str(postgres.folder)]}
    if stopped:
        postgres.stop()
    print(json.dumps(facts), flush=True)
    sys.stdin.readline()


def unprivileged() -> None:
    """Use one of each, stop being root, and use one of each again."""
    with ValkeyServer() as valkey, PostgresServer() as postgres:
        postgres.execute("SELECT 1")  # everything is imported now: what root has installed may be closed to others
        valkey.clear()
    nobody = pwd.getpwnam("nobody")
    os.setgroups([])
    os.setresgid(nobody.pw_gid, nobody.pw_gid, 0)
    os.setresuid(nobody.pw_uid, nobody.pw_uid, 0)  # the rest of this program is what may not be root
    try:
        with ValkeyServer() as valkey, PostgresServer() as postgres:
            owners = [Path(f"/proc/{server.pid}").stat().st_uid for server in (valkey, postgres)]
            with valkey.client() as client:
                client.set("kept", "yes")
                valkey.kill()
                valkey.start()
                kept = client.get("kept")
            postgres.kill()
            rows = postgres.restart().execute("SELECT 1")
        print(json.dumps({"owners": owners, "expected": nobody.pw_uid, "kept": kept, "rows": rows}))
    except (PermissionError, ServerError) as error:
        print(json.dumps({"failed": str(error)}))
    finally:
        os.setresuid(0, 0, 0)  # what is measured of this program is written by root


VERBS = {
    "start": lambda: start(stopped=False),
    "start-stopped": lambda: start(stopped=True),
    "unprivileged": unprivileged,
}

if __name__ == "__main__":
    VERBS[sys.argv[1]]()
