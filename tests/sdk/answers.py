"""What the scripted provider answers.

Owns the routes and, for each provider's dialect, answers that are made up but shaped as the provider
shapes them. The figures in them stand in `usage.json`. A request's `x-trial-script` header, which no
provider knows and every proxy passes on, asks for something else than the plain answer.

Invariant: the same request gets the same answer.
"""

import base64
import json
import re
import struct
from dataclasses import dataclass, field
from pathlib import Path

USAGE = {
    name: facts["wire"]
    for name, facts in json.loads((Path(__file__).parent / "usage.json").read_text()).items()
}

CREATED = 1787000000
WORDS = ["Tokens", " are", " counted", ",", " none", " twice", "."]
TEXT = "".join(WORDS)
SPEECH = bytes(range(256)) * 400

# Seconds between two pieces of a slow stream, and how many words it has: long enough that nobody
# who hangs up half-way is ever too late.
SLOW_PACE = 0.02
SLOW_WORDS = 500

# How often the words are said in an answer that goes on for about a second.
LINGERING_WORDS = 8

# Seconds that a late head takes; the trial's clients wait for less.
LATE_HEAD = 3.0


@dataclass
class Request:
    method: str
    path: str
    headers: dict
    body: bytes

    @property
    def script(self):
        return self.headers.get("x-trial-script", "")

    @property
    def json(self):
        return json.loads(self.body or b"{}")

    @property
    def words(self):
        return WORDS * {"slow": SLOW_WORDS, "lingers": LINGERING_WORDS}.get(self.script, 1)

    @property
    def retry(self):
        return int(self.headers.get("x-stainless-retry-count", 0))


@dataclass
class Answer:
    status: int | None  # None: the connection is closed without an answer.
    headers: list
    pieces: list
    is_stream: bool = False
    encoding: str = ""
    delay: float = 0
    pace: float = 0
    breaks: bool = False

    @staticmethod
    def json(value, status=200, headers=()):
        # Pretty-printed, as OpenAI does it.
        return Answer.bytes(json.dumps(value, indent=2).encode(), "application/json", status, headers)

    @staticmethod
    def bytes(body, content_type, status=200, headers=()):
        return Answer(status, [("Content-Type", content_type), *STANDING, *headers], [body])

    @staticmethod
    def stream(pieces, content_type="text/event-stream; charset=utf-8"):
        headers = [("Content-Type", content_type), ("cache-control", "no-cache"), *STANDING]
        return Answer(200, headers, [piece.encode() for piece in pieces], is_stream=True)


# Models, and what they are called in answers, whose usage no case gets to see: the figures in
# `usage.json` are made up, and tokenmeter would learn from them how far its estimates are off.
UNTAUGHT = {
    "gpt-4.1-mini": "gpt-4.1-mini-2025-04-14",
    "openai/gpt-4.1-mini": "openai/gpt-4.1-mini",
    "prod-untaught": "gpt-4.1-mini-2025-04-14",
    "claude-haiku-4-5": "claude-haiku-4-5-20251001",
}

# Headers of every answer. Repeated ones and odd cases are there to be kept.
STANDING = [
    ("Date", "Tue, 18 Aug 2026 12:00:00 GMT"),
    ("x-request-id", "req_trial"),
    ("Openai-Processing-MS", "17"),
    ("x-ratelimit-remaining-tokens", "149984"),
    ("Set-Cookie", "__cf_bm=a; path=/; HttpOnly"),
    ("Set-Cookie", "_cfuvid=b; path=/"),
]


def data(value):
    """An event of a stream that has only data."""
    return f"data: {json.dumps(value)}\n\n"


def event(value):
    """An event that is named by its type."""
    return f"event: {value['type']}\ndata: {json.dumps(value)}\n\n"


DONE = "data: [DONE]\n\n"


# --- OpenAI: chat completions, in its own words, Azure's, OpenRouter's and Ollama's ---


@dataclass
class ChatDialect:
    model: str
    usage: str
    always_reports: bool = False
    before: list = field(default_factory=list)
    extra: dict = field(default_factory=dict)


OPENAI = ChatDialect(
    "gpt-5-mini-2025-08-07",
    "openai.chat",
    extra={"service_tier": "default", "system_fingerprint": "fp_44709d6fcb"},
)
FILTERED = {"hate": {"filtered": False, "severity": "safe"}}
AZURE = ChatDialect(
    "gpt-4o-2024-11-20",
    "azure.chat",
    before=[
        data(
            {
                "choices": [],
                "created": 0,
                "id": "",
                "model": "",
                "object": "",
                "prompt_filter_results": [
                    {"prompt_index": 0, "content_filter_results": FILTERED}
                ],
            }
        )
    ],
)
OPENROUTER = ChatDialect(
    "anthropic/claude-sonnet-4",
    "openrouter.chat",
    always_reports=True,
    before=[": OPENROUTER PROCESSING\n\n"] * 2,
    extra={"provider": "Anthropic"},
)
OLLAMA = ChatDialect("qwen3:4b", "ollama.v1", extra={"system_fingerprint": "fp_ollama"})


def chat_dialect(request):
    if request.path.startswith("/openai/"):
        return AZURE
    if request.path.startswith("/api/v1/"):
        return OPENROUTER
    return OLLAMA if request.path.startswith("/local/") else OPENAI


TOOL_CALL = {"name": "weather", "arguments": '{"city":"Oslo"}'}


def chat(request):
    asked, dialect = request.json, chat_dialect(request)
    if asked.get("stream"):
        return chat_stream(request, asked, dialect)
    if asked.get("tools"):
        call = {"id": "call_1", "type": "function", "function": TOOL_CALL}
        message, reason = {"role": "assistant", "content": None, "tool_calls": [call]}, "tool_calls"
    elif asked.get("response_format"):
        message, reason = {"role": "assistant", "content": '{"answer":42}'}, "stop"
    else:
        message, reason = {"role": "assistant", "content": TEXT}, "stop"
    message |= {"refusal": None, "annotations": []}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
    return Answer.json(
        {
            "id": "chatcmpl-trial",
            "object": "chat.completion",
            "created": CREATED,
            "model": dialect.model,
            "choices": [choice],
            "usage": USAGE[dialect.usage],
            **dialect.extra,
        }
    )


def chat_stream(request, asked, dialect):
    includes_usage = (asked.get("stream_options") or {}).get("include_usage")
    model = UNTAUGHT.get(asked.get("model"), dialect.model)

    def chunk(choices, **more):
        usage = {"usage": None} if includes_usage and not dialect.always_reports else {}
        head = {"id": "chatcmpl-trial", "object": "chat.completion.chunk", "created": CREATED}
        head |= {"model": model, **dialect.extra, "choices": choices}
        return data({**head, **usage, **more})

    def delta(content, reason=None):
        return chunk([{"index": 0, "delta": content, "logprobs": None, "finish_reason": reason}])

    pieces = [*dialect.before, delta({"role": "assistant", "content": "", "refusal": None})]
    if asked.get("tools"):
        call = {"index": 0, "id": "call_1", "type": "function", "function": TOOL_CALL}
        pieces += [delta({"tool_calls": [call]}), delta({}, "tool_calls")]
    else:
        pieces += [delta({"content": word}) for word in request.words]
    if request.script == "error-in-stream":
        error = {"message": "Provider disconnected", "code": 502}
        failed = [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}]
        return Answer.stream([*pieces, chunk(failed, error=error)])
    if not asked.get("tools"):
        pieces.append(delta({}, "stop"))
    if dialect.always_reports:
        choice = {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
        pieces.append(chunk([choice], usage=USAGE[dialect.usage]))
    elif includes_usage:
        pieces.append(chunk([], usage=USAGE[dialect.usage]))
    return Answer.stream([*pieces, DONE])


# --- OpenAI: the rest ---


def completion(request):
    asked = request.json
    head = {"id": "cmpl-trial", "object": "text_completion", "created": CREATED}
    head["model"] = "gpt-3.5-turbo-instruct:20230824-v2"

    def choice(text, reason):
        return [{"text": text, "index": 0, "logprobs": None, "finish_reason": reason}]

    if not asked.get("stream"):
        usage = USAGE["openai.completion"]
        return Answer.json({**head, "choices": choice(TEXT, "stop"), "usage": usage})
    pieces = [data({**head, "choices": choice(word, None)}) for word in request.words]
    return Answer.stream([*pieces, data({**head, "choices": choice("", "stop")}), DONE])


def embeddings(request):
    asked = request.json
    vector = [0.25, -0.5, 0.125, 1.0]
    if asked.get("encoding_format") == "base64":
        vector = base64.b64encode(struct.pack("<4f", *vector)).decode()
    inputs = asked["input"] if isinstance(asked["input"], list) else [asked["input"]]
    items = [{"object": "embedding", "index": i, "embedding": vector} for i in range(len(inputs))]
    usage, model = USAGE["openai.embedding"], "text-embedding-3-small"
    return Answer.json({"object": "list", "data": items, "model": model, "usage": usage})


def response_object(status, usage, identity="resp_trial", model="gpt-5.6-2026-06-01"):
    text = {"type": "output_text", "text": TEXT, "annotations": [], "logprobs": []}
    message = {"id": "msg_trial", "type": "message", "role": "assistant", "status": "completed"}
    return {
        "id": identity,
        "object": "response",
        "created_at": CREATED,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "model": model,
        "output": [{**message, "content": [text]}] if usage else [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "service_tier": "default",
        "tool_usage": {"image_gen": {"input_tokens": 999, "output_tokens": 999}},
        "usage": usage,
        "metadata": {},
    }


def responses(request):
    asked, usage = request.json, USAGE["openai.response"]
    if asked.get("background"):
        return Answer.json(response_object("queued", None, "resp_background"))
    if not asked.get("stream"):
        return Answer.json(response_object("completed", usage))
    at = {"item_id": "msg_trial", "output_index": 0, "content_index": 0}
    item = {"id": "msg_trial", "type": "message", "role": "assistant", "content": []}
    part = {"type": "output_text", "text": "", "annotations": []}
    model = UNTAUGHT.get(asked["model"], "gpt-5.6-2026-06-01")
    started = response_object("in_progress", None, model=model)
    events = [
        {"type": "response.created", "response": started},
        {"type": "response.in_progress", "response": started},
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.content_part.added", **at, "part": part},
        *(
            {"type": "response.output_text.delta", **at, "delta": word, "logprobs": []}
            for word in request.words
        ),
        {"type": "response.output_text.done", **at, "text": TEXT, "logprobs": []},
        {"type": "response.completed", "response": response_object("completed", usage)},
    ]
    numbered = ({**one, "sequence_number": number} for number, one in enumerate(events))
    return Answer.stream([event(one) for one in numbered])


def response_retrieved(request):
    identity = request.path.split("?")[0].rsplit("/", 1)[1]
    return Answer.json(response_object("completed", USAGE["openai.response"], identity))


FILE = {
    "id": "file-trial",
    "object": "file",
    "bytes": 1000,
    "created_at": CREATED,
    "filename": "lines.jsonl",
    "purpose": "batch",
    "status": "processed",
}


def files(request):
    if request.method == "POST":
        return Answer.json({**FILE, "bytes": len(request.body)})
    after = "after=file-trial" in request.path
    page = {"object": "list", "data": [{**FILE, "id": "file-last"}] if after else [FILE]}
    return Answer.json({**page, "has_more": not after, "first_id": "f", "last_id": "file-trial"})


def file(request):
    if request.method == "DELETE":
        return Answer.json({"id": "file-trial", "object": "file", "deleted": True})
    return Answer.json(FILE)


def file_content(_):
    return Answer.bytes(SPEECH, "application/octet-stream")


def images(_):
    image = {"b64_json": base64.b64encode(SPEECH).decode()}
    return Answer.json({"created": CREATED, "data": [image], "usage": USAGE["openai.image"]})


def transcription(request):
    if b'name="response_format"\r\n\r\ntext' in request.body:
        return Answer.bytes(f"{TEXT}\n".encode(), "text/plain; charset=utf-8")
    if b"whisper-1" in request.body:
        return Answer.json({"text": TEXT, "usage": USAGE["openai.duration"]})
    usage = USAGE["openai.transcription"]
    if b'name="stream"\r\n\r\ntrue' not in request.body:
        return Answer.json({"text": TEXT, "usage": usage})
    deltas = [{"type": "transcript.text.delta", "delta": word} for word in WORDS]
    last = {"type": "transcript.text.done", "text": TEXT, "usage": usage}
    # OpenAI ends the lines of this stream with CRLF.
    pieces = [data(one).replace("\n", "\r\n") for one in [*deltas, last]]
    return Answer.stream([*pieces, DONE.replace("\n", "\r\n")])


def speech(_):
    half = len(SPEECH) // 2
    answer = Answer.stream([], "audio/mpeg")
    answer.pieces = [SPEECH[:half], SPEECH[half:]]
    return answer


def moderations(_):
    result = {"flagged": False, "categories": {"hate": False}, "category_scores": {"hate": 0.01}}
    result["category_applied_input_types"] = {"hate": ["text"]}
    head = {"id": "modr-trial", "model": "omni-moderation-latest"}
    return Answer.json({**head, "results": [result]})


MODEL = {"id": "gpt-5-mini", "object": "model", "created": CREATED, "owned_by": "openai"}


def models(request):
    if "anthropic-version" in request.headers:
        model = {"type": "model", "id": "claude-sonnet-5-5", "display_name": "Claude Sonnet 5.5"}
        model["created_at"] = "2026-01-01T00:00:00Z"
        ends = {"first_id": model["id"], "last_id": model["id"]}
        return Answer.json({"data": [model], "has_more": False, **ends})
    return Answer.json({"object": "list", "data": [MODEL]})


def model(_):
    return Answer.json(MODEL)


# --- Anthropic ---


def message_object(content, usage, stop_reason, model="claude-sonnet-5-5"):
    return {
        "id": "msg_trial",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": usage,
    }


def messages(request):
    asked = request.json
    if not asked.get("stream"):
        content, reason = [{"type": "text", "text": TEXT}], "end_turn"
        if asked.get("tools"):
            use = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Oslo"}}
            content, reason = [*content, use], "tool_use"
        return Answer.json(message_object(content, USAGE["anthropic.message"], reason))
    model = UNTAUGHT.get(asked["model"], "claude-sonnet-5-5")
    start = message_object([], USAGE["anthropic.start"], None, model)
    deltas = [
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}}
        for word in request.words
    ]
    events = [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
        *deltas,
    ]
    if request.script == "error-in-stream":
        error = {"type": "overloaded_error", "message": "Overloaded"}
        return Answer.stream([event(one) for one in [*events, {"type": "error", "error": error}]])
    ended = {"stop_reason": "end_turn", "stop_sequence": None}
    events += [
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": ended, "usage": USAGE["anthropic.stream"]},
        {"type": "message_stop"},
    ]
    return Answer.stream([event(one) for one in events])


def count_tokens(_):
    return Answer.json(USAGE["anthropic.count"])


# --- Ollama's own API ---


def ollama_lines(request, word, last):
    """An answer in lines, or whole where the request says so."""
    head = {"model": "qwen3:4b", "created_at": "2026-08-18T12:00:00.000000Z"}
    end = {"done": True, "done_reason": "stop", **USAGE["ollama.chat"]}
    if request.json.get("stream") is False:
        return Answer.json({**head, **word(TEXT), **end})
    lines = [{**head, **word(one), "done": False} for one in request.words]
    lines.append({**head, **last, **end})
    return Answer.stream([json.dumps(line) + "\n" for line in lines], "application/x-ndjson")


def ollama_chat(request):
    if request.json["model"] == "absent":
        return Answer.json({"error": "model 'absent' not found"}, 404)

    def word(text):
        return {"message": {"role": "assistant", "content": text}}

    return ollama_lines(request, word, word(""))


def ollama_generate(request):
    return ollama_lines(request, lambda text: {"response": text}, {"response": "", "context": [1]})


def ollama_embed(_):
    head = {"model": "embeddinggemma", "embeddings": [[0.25, -0.5, 0.125]]}
    return Answer.json({**head, **USAGE["ollama.embed"]})


def ollama_tags(_):
    return Answer.json({"models": [{"name": "qwen3:4b", "model": "qwen3:4b", "size": 1}]})


# --- errors and odd endings ---


def error(request, status, kind, code, headers=()):
    if "anthropic-version" in request.headers:
        body = {"type": "error", "error": {"type": kind, "message": "As the script says."}}
        return Answer.json({**body, "request_id": "req_trial"}, status, headers)
    body = {"message": "As the script says.", "type": kind, "param": None, "code": code}
    return Answer.json({"error": body}, status, headers)


def scripted(request):
    """The answer that the script asks for instead of the plain one, if it does."""
    first = request.retry == 0
    if request.path.startswith("/refusing/") and "stream_options" in request.json:
        return error(request, 400, "invalid_request_error", "unknown_parameter")
    match request.script:
        case "429-once" if first:
            retry_after = [("Retry-After", "1")]
            return error(request, 429, "rate_limit_error", "rate_limit_exceeded", retry_after)
        case "500-once" if first:
            return error(request, 500, "server_error", None)
        case "529-once" if first:
            return error(request, 529, "overloaded_error", None, [("retry-after-ms", "20")])
        case "503-forever":
            return error(request, 503, "server_error", None, [("retry-after-ms", "20")])
        case "no-retry":
            headers = [("x-should-retry", "false")]
            return error(request, 429, "insufficient_quota", "insufficient_quota", headers)
        case "dropped-once" if first:
            return Answer(None, [], [])
        case "400":
            return error(request, 400, "invalid_request_error", "context_length_exceeded")
        case "401":
            return error(request, 401, "authentication_error", "invalid_api_key")
    return None


ROUTES = [
    (r"/chat/completions$", chat),
    (r"/completions$", completion),
    (r"/embeddings$", embeddings),
    (r"/responses$", responses),
    (r"/responses/resp_[a-z]+$", response_retrieved),
    (r"/files$", files),
    (r"/files/[^/]+/content$", file_content),
    (r"/files/[^/]+$", file),
    (r"/images/(generations|edits)$", images),
    (r"/audio/(transcriptions|translations)$", transcription),
    (r"/audio/speech$", speech),
    (r"/moderations$", moderations),
    (r"/models$", models),
    (r"/models/[^/]+$", model),
    (r"/messages/count_tokens$", count_tokens),
    (r"/messages$", messages),
    (r"/api/chat$", ollama_chat),
    (r"/api/generate$", ollama_generate),
    (r"/api/embed$", ollama_embed),
    (r"/api/tags$", ollama_tags),
]


def answer(request):
    if special := scripted(request):
        return special
    path = request.path.split("?")[0]
    for pattern, make in ROUTES:
        if re.search(pattern, path):
            plain = make(request)
            break
    else:
        return error(request, 404, "invalid_request_error", "unknown_url")
    match request.script:
        case "gzip" | "br" | "zstd":
            plain.encoding = request.script
        case "slow" | "lingers":
            plain.pace = SLOW_PACE
        case "late-head":
            plain.delay = LATE_HEAD
        case "breaks":
            plain.pieces, plain.breaks = plain.pieces[:4], True
    return plain
