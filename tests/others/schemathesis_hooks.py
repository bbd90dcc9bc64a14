"""What a description cannot say of parameters that are right each by itself: `days` goes with neither `since`
nor `until`, and `until` is later than `since`. Their descriptions say it in words, and tests/it/openapi.rs holds
the server to them. Only valid cases are put right; those that are meant to be wrong stay as they are.

Users and sessions that nobody made up are not found: every other valid case asks for one that there is."""

import os
from datetime import date, timedelta

import schemathesis
from schemathesis.generation import GenerationMode

KNOWN = {name: os.environ.get(f"TOKENMETER_KNOWN_{name.upper()}") for name in ("user", "session")}


@schemathesis.hook
def before_call(context, case, kwargs):
    if case.meta is None or case.meta.generation.mode != GenerationMode.POSITIVE:
        return
    for name, known in KNOWN.items():
        made_up = (case.path_parameters or {}).get(name)
        if known and made_up is not None and len(str(made_up)) % 2 == 1:
            case.path_parameters[name] = known
    query = case.query
    if not query:
        return
    if "since" in query or "until" in query:
        query.pop("days", None)
    # Two days are more than any offset makes of a date.
    since, until = (str(query.get(name, ""))[:10] for name in ("since", "until"))
    if since and until and not before(since, until):
        query.pop("until")


def before(since, until):
    try:
        return date.fromisoformat(since) < date.fromisoformat(until) - timedelta(days=2)
    except (ValueError, OverflowError):
        return False
