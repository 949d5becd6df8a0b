"""Converts a Query to SQL."""

from __future__ import annotations

from flickbook.store.base import Query


def compile_query(query: Query) -> tuple[str, list[object], str]:
    """The condition of a Query, its values, and the order."""
    where: list[str] = ["1"]
    values: list[object] = []
    # Few jobs have a note: the plus prevents a scan of another column's index.
    by = "" if query.noted is None else "+"
    for column, value in (("owner", query.owner), ("leader", query.leader), ("worker", query.worker)):
        if value is not None:
            where.append(f"{by}{column}=?")
            values.append(value)
    for column, allowed in (("state", query.states), ("kind", query.kinds)):
        if allowed:
            where.append(f"{by}{column} IN ({', '.join('?' * len(allowed))})")
            values += allowed
    if query.finished_since:
        where.append("finished_at >= ?")
        values.append(query.finished_since)
    if query.noted is not None:
        where.append("id IN (SELECT id FROM notes WHERE kind=?)")
        values.append(query.noted)
    if query.text:
        # As bytes, because damaged content may not be valid text.
        where.append("instr(folded(CAST(json_extract(plan, '$.prompt') AS BLOB)), ?)")
        values.append(query.text.casefold())
    if query.after is not None and query.order != "queue":
        where.append(f"seq {'<' if query.order == 'new' else '>'} (SELECT seq FROM jobs WHERE id=?)")
        values.append(query.after)
    order = {"new": "seq DESC", "old": "seq", "queue": "priority DESC, turn, position"}[query.order]
    return " AND ".join(where), values, order
