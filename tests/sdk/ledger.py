"""tokenmeter's ledger, read from its database file. As a command, `ledger.py DATABASE SESSION COUNT`,
it prints the rows of one session as JSON, for the trial that is not in Python.

Owns the waiting: rows reach the database a moment after the call, in batches.
"""

import json
import sqlite3
import sys
import time
from contextlib import closing

# How long rows may take to reach the database, and how often it is looked at.
PATIENCE_SECONDS = 5.0
INTERVAL_SECONDS = 0.02

# How much longer is waited for rows that should not be there.
GRACE_SECONDS = 0.05


def rows(database, session, count):
    """The rows of a session, oldest first, once there are so many."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        found = select(database, session)
        if len(found) >= count:
            time.sleep(GRACE_SECONDS)
            return select(database, session)
        if time.monotonic() > deadline:
            return found
        time.sleep(INTERVAL_SECONDS)


def select(database, session):
    with closing(connect(database)) as connection:
        sql = "SELECT * FROM token_usage WHERE session = ? ORDER BY created_at, id"
        return [dict(row) for row in connection.execute(sql, [session])]


def connect(database):
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    connection.row_factory = sqlite3.Row
    return connection


def count_all(database):
    with closing(connect(database)) as connection:
        return connection.execute("SELECT count(*) FROM token_usage").fetchone()[0]


if __name__ == "__main__":
    print(json.dumps(rows(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
