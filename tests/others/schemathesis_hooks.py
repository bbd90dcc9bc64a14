"""What a description cannot say of parameters that are right each by itself: `days` goes with neither `since`
nor `until`, and `until` is later than `since`. Only valid cases are put right; those that are meant to be wrong
stay as they are."""

import schemathesis
from schemathesis.generation import GenerationMode


@schemathesis.hook
def before_call(context, case, kwargs):
    query = case.query
    if not query or case.meta is None or case.meta.generation.mode != GenerationMode.POSITIVE:
        return
    if "since" in query or "until" in query:
        query.pop("days", None)
    # Two days are more than any offset makes of a date.
    since, until = (str(query.get(name, ""))[:10] for name in ("since", "until"))
    if since and until and not before(since, until):
        query.pop("until")


def before(since, until):
    from datetime import date, timedelta

    try:
        return date.fromisoformat(since) < date.fromisoformat(until) - timedelta(days=2)
    except (ValueError, OverflowError):
        return False
