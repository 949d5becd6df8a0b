"""`flickbook store` and `flickbook repair`: check, back up and repair the job store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flickbook.cli import console, options
from flickbook.cli.services.options import Store as Address
from flickbook.errors import OutputError, RequestError

if TYPE_CHECKING:
    from flickbook.store.base import Store
    from flickbook.store.sqlite.repair import Repaired
    from flickbook.store.sqlite.store import SqliteStore

app = typer.Typer(help="Check, back up and repair the job store.", no_args_is_help=True, rich_markup_mode=None)
Open = Annotated[
    bool, typer.Option("--open", help="Allow requests without an API key again, if the store has lost all its keys.")
]
Copy = Annotated[Path, typer.Argument(help="File to write the copy to.")]


@app.command("check")
def check(store: Address = "", as_json: options.AsJson = False) -> int:
    """Check the integrity of the store, which may take a while; exits with 1 if it is damaged."""
    from flickbook.jobs.backend import Backend

    with Backend.at(store) as backend:
        found = backend.ask(backend.store.check())
        counts = backend.ask(backend.store.counts())
        title = backend.store.title
    if as_json:
        console.document({"store": title, "sound": not found, "problems": found, "jobs": counts})
    else:
        held = ", ".join(f"{count} {state}" for state, count in counts.items() if count) or "no jobs"
        print(f"{title}: {held}", *found, "the store is intact" if not found else "run `flickbook repair`", sep="\n")
    return 1 if found else 0


@app.command("backup")
def backup(path: Copy, store: Address = "", overwrite: options.Overwrite = False) -> None:
    """Write a copy of all jobs to a file while the service runs; `repair` uses the automatic daily one."""
    from flickbook.jobs.backend import Backend

    if path.exists() and not overwrite:
        raise OutputError(path, "exists already", "choose another name or add --overwrite")
    with Backend.at(store) as backend:
        kept = _embedded(backend.store, "backed up")
        if path.exists() and path.samefile(kept.path):
            raise OutputError(path, "is the store itself", "choose another name")
        backend.ask(kept.backup(path.absolute()))
    print(path)


@app.command("repair")
def repair(store: Address = "", open_: Open = False, as_json: options.AsJson = False) -> None:
    """Move a damaged job store aside and restore its data from it or from the last backup."""
    from flickbook.store.connect import connect
    from flickbook.store.sqlite.repair import Repaired
    from flickbook.store.sqlite.repair import repair as repaired
    from flickbook.store.sqlite.store import SqliteStore

    place = connect(store)
    served = open_ and not isinstance(place, SqliteStore)  # a database server has its own repair tools
    found = Repaired(None) if served else repaired(_embedded(place, "repaired").path)
    opened = open_ and _released(store)
    report: dict[str, Any] = {
        "sound": found.sound,
        "quarantined": None if found.quarantined is None else str(found.quarantined),
        "salvaged": found.salvaged,
        "scattered": found.scattered,
        "restored": found.restored,
        "lost_keys": [{"id": id, "name": name} for id, name in found.lost_keys.items()],
        "closed": (found.closed or open_) and not opened,
    }
    if as_json:
        console.document(report)
    elif not served:
        _print_repair(found, report)
    if opened:
        console.note("requests from this machine need no key now")
    elif open_:
        limit = "the store holds keys, and requests need one of them"
        raise RequestError("open", True, limit, "`flickbook keys list` shows them")


def _print_repair(found: Repaired, report: dict[str, Any]) -> None:
    if found.sound:
        print("the store is intact; nothing was changed")
        return
    if found.quarantined is None:
        print("the store was missing; a new one was made")
    else:
        print(f"the damaged store is kept as {found.quarantined}")
    labels = {
        "salvaged": "read from it",
        "scattered": "recovered from its pages",
        "restored": "restored from the last backup",
    }
    for name, words in labels.items():
        rows = ", ".join(f"{count} {table}" for table, count in report[name].items() if count)
        print(f"{words}: {rows or 'nothing'}")
    if found.lost_keys:
        names = ", ".join(f"{name or 'name unknown'} ({id})" for id, name in found.lost_keys.items())
        print(f"lost {len(found.lost_keys)} API {'key' if len(found.lost_keys) == 1 else 'keys'}: {names}")
    if found.closed and report["restored"]["notes"]:
        print("keys from the backup may have been revoked since: `flickbook keys list` shows them")
    if found.closed:
        print("the service needs a key: make one with `flickbook keys create --name NAME`", end="")
        print(", or allow requests without one with `flickbook repair --open`")


def _released(address: str) -> bool:
    """Allow requests without an API key; returns False, without a change, if the store holds keys."""
    from flickbook.jobs.api_keys import Keys
    from flickbook.jobs.backend import Backend

    with Backend.at(address) as backend:
        if backend.ask(Keys(backend.store).list()):
            return False
        backend.ask(backend.store.release())
    return True


def _embedded(store: Store, wish: str) -> SqliteStore:
    """Return the store if it is a file. Raises RequestError otherwise."""
    from flickbook.store.sqlite.store import SqliteStore

    if not isinstance(store, SqliteStore):
        raise RequestError(
            "store", store.title, f"cannot be {wish} by this command", "use the tools of the database server"
        )
    return store
