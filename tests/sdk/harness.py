"""How one case of the trial is run and judged.

A case is a call made with an official SDK. It is made twice, directly and through tokenmeter, and
holds if the SDK gives the same result, the provider received the same request, the response heads
were the same, and the ledger has exactly the rows expected. Owns what "the same" means.
"""

import asyncio
import base64
import contextlib
import inspect
import json
import re
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

import ledger

LEDGER = {
    name: facts["ledger"]
    for name, facts in json.loads((Path(__file__).parent / "usage.json").read_text()).items()
}
TOKENS = [
    f"{name}_tokens"
    for name in (
        *("input", "cache_read", "cache_write", "audio_input", "image_input"),
        *("output", "reasoning", "audio_output", "image_output", "total"),
    )
]

# Fields that belong to one connection, which a proxy may change.
HOP_BY_HOP = {"connection", "keep-alive", "te", "transfer-encoding"}


@dataclass
class Case:
    """`call` is made with a client of `api`; `rows` are what the ledger must have of it."""

    name: str
    api: str
    call: Callable
    rows: list
    modes: tuple = ("sync", "async")
    # A tag header that is `None` here is not sent.
    headers: dict = field(default_factory=dict)
    # tokenmeter answers in the provider's place: only result and requests are the same.
    own_answers: bool = False
    # tokenmeter refuses the call with this code: the provider hears nothing of it.
    refused: str = ""
    # tokenmeter asks for the usage of this many streams, and so often the provider refuses that.
    asked_usage: int = 0
    asked_in_vain: int = 0
    # The client leaves, and tokenmeter reads on to the end.
    drained: bool = False


@dataclass
class About:
    """Some number from `low` to `high`: where tokens are estimated."""

    low: int
    high: int

    def __eq__(self, other):
        return isinstance(other, int) and self.low <= other <= self.high

    def __repr__(self):
        return f"{self.low} to {self.high}"


class Estimate:
    """The JSON text that says how an estimate came about, of these sides and no other."""

    def __init__(self, *sides):
        self.sides = set(sides)

    def __eq__(self, other):
        if not isinstance(other, str):
            return False
        told = json.loads(other)
        sides = {side for side in ("input", "output") if side in told}
        return sides == self.sides and told["error_tokens"] >= 0

    def __repr__(self):
        return f"an estimate of {sorted(self.sides)}"


CASES = []


def case(name, api, *rows, **more):
    """Declares the function below it a case."""

    def declare(call):
        CASES.append(Case(name, api, call, list(rows), **more))
        return call

    return declare


class SomeId:
    """The id of any row."""

    def __eq__(self, other):
        return isinstance(other, str) and len(other) == 36

    def __repr__(self):
        return "an id"


def estimated(endpoint, output, prompt=None, usage=None, **more):
    """A row whose output, and prompt where `usage` does not report it, is estimated: a pair of the
    least and the most that it may be."""
    known = LEDGER[usage]["input_tokens"] if usage else None
    low, high = prompt or (known, known)
    expected = {"usage_source": "estimated", "output_tokens": About(*output)}
    expected |= {"input_tokens": About(low, high), "cost_source": "priced"}
    expected |= {"total_tokens": About(low + output[0], high + output[1])}
    expected |= {"estimate": Estimate("output") if usage else Estimate("input", "output")}
    return row(endpoint, usage, **{**expected, **more})


def row(endpoint, usage=None, **more):
    """A row of the ledger: these columns, and no other token counts than those of `usage`."""
    expected = dict.fromkeys([*TOKENS, "estimate", "stream_usage", "charged_by"])
    expected |= {"endpoint": endpoint, "method": "POST", "status": 200, "outcome": "completed"}
    expected |= {"streaming": 0, "error": None, "retry": 0, "attempt": None, "metadata": None}
    expected |= {"usage_source": "reported" if usage else "none"}
    expected |= {"cost_source": "priced" if usage else "none"}
    return expected | (LEDGER[usage] if usage else {}) | more


# --- one case ---


@dataclass
class Trial:
    """Where things are, and how clients of each API are made."""

    provider: str
    tokenmeter: str
    database: str
    make_client: Callable
    # How many requests the provider received through tokenmeter.
    forwarded: int = 0

    def received(self):
        with urllib.request.urlopen(f"{self.provider}/_trial/received") as answer:
            return json.load(answer)

    async def faults(self, case, mode):
        """What is wrong with a case; nothing if it holds."""
        session = f"{case.api} {case.name} {mode}".replace(" ", "-")
        tags = {"X-User": "trial", "X-Session": session, "X-Operation": case.api, **case.headers}
        tags = {name: value for name, value in tags.items() if value is not None}
        direct = await self.made(case, mode, tags, None)
        through = await self.made(case, mode, tags, self.tokenmeter)
        self.forwarded += len(through.received) - case.asked_in_vain
        if case.refused:
            yield differ("refusal", [case.refused, []], [through.result["code"], through.received])
        else:
            yield differ("result", direct.result, through.result)
            yield self.wrong_requests(case, direct.requests(tags), through.requests({}))
        if not case.refused and not case.own_answers:
            # A stream whose usage is asked for comes without an encoding.
            dropped = {"content-encoding"} if case.asked_usage else set()
            yield differ("response heads", direct.heads(dropped), through.heads(dropped))
        rows = await asyncio.to_thread(ledger.rows, self.database, session, len(case.rows))
        yield self.wrong_rows(case, rows, tags)
        yield wrong_ids(rows, through.ids())

    async def made(self, case, mode, tags, tokenmeter):
        seen = []
        address = tokenmeter or self.provider
        client = self.make_client(case.api, mode, address, bool(tokenmeter), tags, seen)
        try:
            result = plain(await case.call(client))
        except Exception as error:  # Whatever the SDK raises is a result too.
            result = plain(error)
        with contextlib.suppress(AttributeError):
            await got(client.close())
        return Made(result, seen, await asyncio.to_thread(self.received))

    def wrong_requests(self, case, direct, through):
        if case.asked_usage:
            asking = [one for one in through if asks_for_usage(one)]
            if len(asking) != case.asked_usage:
                return f"{case.asked_usage} requests should ask for usage, {len(asking)} did"
            through = [unasked(one) for one in through if one not in asking[: case.asked_in_vain]]
            through.sort(key=json.dumps)
            direct = sorted((unasked(one) for one in direct), key=json.dumps)
        if case.drained:
            if any(one["ended"] != "whole" for one in through):
                return f"not read to the end: {[one['ended'] for one in through]}"
            direct = [{**one, "ended": "whole"} for one in direct]
        return differ("provider received", direct, through)

    def wrong_rows(self, case, rows, tags):
        if len(rows) != len(case.rows):
            return f"{len(case.rows)} rows expected, found {len(rows)}: {rows}"
        tagged = {"user": "trial", "session": tags["X-Session"], "operation": case.api}
        wrong = []
        for number, (expected, found) in enumerate(zip(case.rows, rows)):
            for column, value in (tagged | expected).items():
                if found[column] != value:
                    what = f"{value!r} expected, found {found[column]!r}"
                    wrong.append(f"row {number} {column}: {what}")
        return "; ".join(wrong)


@dataclass
class Made:
    result: object
    seen: list
    received: list

    def requests(self, left_behind):
        """What the provider received, apart from the headers that should stay behind."""
        names = HOP_BY_HOP | {name.lower() for name in left_behind}
        # Calls that are made at the same time arrive in any order.
        return sorted((request_of(one, names) for one in self.received), key=json.dumps)

    def heads(self, dropped):
        dropped = dropped | HOP_BY_HOP | {"x-tokenmeter-id"}
        return [(status, without(headers, dropped)) for status, headers in self.seen]

    def ids(self):
        every = (field for _, headers in self.seen for field in headers)
        return [value for name, value in every if name == "x-tokenmeter-id"]


def request_of(received, left_behind):
    headers = received["headers"]
    body = base64.b64decode(received.get("body", ""))
    framing = any(name.lower() == "transfer-encoding" for name, _ in headers)
    kept = json.dumps(without(headers, left_behind))
    # The boundary of a form is a new one each time.
    if boundary := re.search(r"boundary=([^\s;\"]+)", kept):
        kept = kept.replace(boundary[1], "BOUNDARY")
        body = body.replace(boundary[1].encode(), b"BOUNDARY")
    text = base64.b64encode(body).decode()
    told = {name: received[name] for name in ("method", "path", "ended")}
    return {**told, "framing": framing, "headers": kept, "body": text}


# What tokenmeter puts into a request so that the stream reports its usage.
ASKED_USAGE = b'"stream_options":{"include_usage":true}'


def asks_for_usage(request):
    return ASKED_USAGE in base64.b64decode(request["body"])


def unasked(request):
    """A request without what asking for its usage changes: these bytes, length and encodings."""
    body = base64.b64decode(request["body"])
    for splice in (b"," + ASKED_USAGE, ASKED_USAGE + b","):
        body = body.replace(splice, b"", 1)
    headers = without(json.loads(request["headers"]), {"content-length", "accept-encoding"})
    return {**request, "headers": headers, "body": base64.b64encode(body).decode()}


def without(headers, names):
    return sorted([name, value] for name, value in headers if name.lower() not in names)


def differ(what, direct, through):
    """Where two values begin to differ, if they do."""
    if direct == through:
        return None
    one, other = json.dumps(direct), json.dumps(through)
    at = next((i for i, (a, b) in enumerate(zip(one, other)) if a != b), min(len(one), len(other)))
    at = max(0, at - 60)
    one, other = one[at : at + 300], other[at : at + 300]
    return f"{what} differ: directly …{one}, through tokenmeter …{other}"


def wrong_ids(rows, ids):
    unknown = set(ids) - {found["id"] for found in rows}
    return f"x-tokenmeter-id without a row: {unknown}" if unknown else None


# --- results ---


def plain(value):
    """A result as JSON can hold it."""
    if isinstance(value, BaseException):
        kept = {"raised": type(value).__name__, "text": str(value)}
        for name in ("status_code", "body", "code", "request_id", "error"):
            kept[name] = plain(getattr(value, name, None))
        return kept
    if hasattr(value, "model_dump"):
        dumped = value.model_dump(mode="json", warnings=False)
        return {"_request_id": getattr(value, "_request_id", None), **dumped}
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {name: plain(member) for name, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(member) for member in value]
    return value if isinstance(value, (str, int, float, type(None))) else repr(value)


# --- so that a case is written once for both kinds of client ---


async def got(value):
    """What a client's method gave, awaited if it has to be."""
    return await value if inspect.isawaitable(value) else value


async def each(items, limit=None):
    """The items of a stream, at most so many."""
    found = []
    if hasattr(items, "__aiter__"):
        async for item in items:
            found.append(item)
            if len(found) == limit:
                break
    else:
        for item in items:
            found.append(item)
            if len(found) == limit:
                break
    return found


async def until_broken(items):
    """The items of a stream that breaks, and what it broke with."""
    found = []
    try:
        if hasattr(items, "__aiter__"):
            async for item in items:
                found.append(item)
        else:
            for item in items:
                found.append(item)
    except Exception as error:
        return [found, error]
    return found


@contextlib.asynccontextmanager
async def entered(manager):
    """Enters a context manager of either kind."""
    if hasattr(manager, "__aenter__"):
        async with manager as value:
            yield value
    else:
        with manager as value:
            yield value
