"""The cases of OpenAI's own API. Each is written once and made with both kinds of client."""

import asyncio
import io

from harness import About, Estimate, SomeId, case, each, entered, estimated, got, row, until_broken

ASK = [{"role": "user", "content": "Count the tokens, please. Zoë 🦊"}]
CHAT = {"model": "gpt-5-mini", "messages": ASK}
# A model that never reports its usage: see `UNTAUGHT` among the answers.
UNTAUGHT_CHAT = {"model": "gpt-4.1-mini", "messages": ASK}
WITH_USAGE = {"stream": True, "stream_options": {"include_usage": True}}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "strict": True,
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
                "additionalProperties": False,
            },
        },
    }
]
ASKED = {"upstream": "openai", "provider": "openai", "model_requested": "gpt-5-mini"}
SERVED = {**ASKED, "model": "gpt-5-mini-2025-08-07", "service_tier": "default"}
SERVED |= {"upstream_request_id": "req_trial", "path": "/v1/chat/completions"}


def script(name):
    return {"extra_headers": {"X-Trial-Script": name}}


def chat_row(**more):
    return row("chat.completions", "openai.chat", **{**SERVED, "finish_reason": "stop", **more})


def chat_stream_row(**more):
    return chat_row(streaming=1, **more)


def unreported(**more):
    return row("chat.completions", **{**ASKED, **more})


# Tokens of what is asked here, and of what is answered: seven words, some more around them.
ASKED_TOKENS = (16, 18)
WHOLE_ANSWER = (7, 10)

# Of an answer that is given up: what came until then depends on the machine.
PART_ANSWER = (2, 60)


# Of a call that was given up before there was any answer.
GUESSED_PROMPT = {"usage_source": "estimated", "input_tokens": About(*ASKED_TOKENS)}
GUESSED_PROMPT |= {"cost_source": "priced", "estimate": Estimate("input")}


def guessed(output, **more):
    asked = {"upstream": "openai", "provider": "openai", "model_requested": "gpt-4.1-mini"}
    return estimated("chat.completions", output, ASKED_TOKENS, **{**asked, "streaming": 1, **more})


# --- chat completions ---


@case("chat", "openai", chat_row())
async def chat(client):
    return await got(client.chat.completions.create(**CHAT))


@case("chat by the upstream's name", "openai-named", chat_row(path="/openai/v1/chat/completions"))
async def chat_named(client):
    return await got(client.chat.completions.create(**CHAT))


@case(
    "chat with every tag",
    "openai",
    chat_row(attempt=2, metadata='{"team":"a","n":1,"subject":"maths"}'),
    headers={"X-Attempt": "2", "X-Metadata": '{"team":"a","n":1}', "X-Tag-Subject": "maths"},
)
async def chat_tagged(client):
    return await got(client.chat.completions.create(**CHAT, user="u-2"))


@case("chat whose body names the user", "openai", chat_row(user="u-1"), headers={"X-User": None})
async def chat_of_user(client):
    return await got(client.chat.completions.create(**CHAT, safety_identifier="u-1", user="u-2"))


@case("chat with a bad tag", "openai", headers={"X-Attempt": "two"}, refused="invalid_tag")
async def chat_badly_tagged(client):
    return await got(client.chat.completions.create(**CHAT))


@case("chat raw response", "openai", chat_row())
async def chat_raw(client):
    raw = await got(client.chat.completions.with_raw_response.create(**CHAT))
    return [raw.content, raw.parse()]


@case("chat tool call", "openai", chat_row(finish_reason="tool_calls"))
async def chat_tools(client):
    return await got(client.chat.completions.create(**CHAT, tools=TOOLS))


@case("chat parsed", "openai", chat_row())
async def chat_parsed(client):
    schema = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}
    return await got(client.chat.completions.parse(**CHAT, response_format=schema))


@case("chat stream with usage", "openai", chat_stream_row())
async def chat_stream(client):
    return await each(await got(client.chat.completions.create(**CHAT, **WITH_USAGE)))


@case(
    "chat stream without usage",
    "openai",
    guessed(
        WHOLE_ANSWER,
        model="gpt-4.1-mini-2025-04-14",
        service_tier="default",
        upstream_request_id="req_trial",
        finish_reason="stop",
    ),
)
async def chat_stream_unreported(client):
    return await each(await got(client.chat.completions.create(**UNTAUGHT_CHAT, stream=True)))


@case("chat stream tool call", "openai", chat_stream_row(finish_reason="tool_calls"))
async def chat_stream_tools(client):
    return await each(await got(client.chat.completions.create(**CHAT, **WITH_USAGE, tools=TOOLS)))


@case("chat stream helper", "openai", chat_stream_row())
async def chat_stream_helper(client):
    options = {"stream_options": WITH_USAGE["stream_options"]}
    async with entered(client.chat.completions.stream(**CHAT, **options)) as stream:
        events = await each(stream)
        return [[event.type for event in events], await got(stream.get_final_completion())]


@case("forty at once", "openai", *[chat_stream_row()] * 20, *[chat_row()] * 20, modes=("async",))
async def forty_at_once(client):
    streams = await asyncio.gather(*[chat_stream(client) for _ in range(20)])
    return [*streams, *await asyncio.gather(*[chat(client) for _ in range(20)])]


@case("large prompt", "openai", chat_row())
async def large_prompt(client):
    content = "All work and no play. " * 100_000
    messages = [{"role": "user", "content": content}]
    return await got(client.chat.completions.create(model="gpt-5-mini", messages=messages))


# --- encodings ---


def declare_encodings():
    for encoding in ("gzip", "br", "zstd"):

        async def whole(client, encoding=encoding):
            return await got(client.chat.completions.create(**CHAT, **script(encoding)))

        async def stream(client, encoding=encoding):
            asked = {**CHAT, **WITH_USAGE, **script(encoding)}
            return await each(await got(client.chat.completions.create(**asked)))

        case(f"chat {encoding}", "openai", chat_row())(whole)
        case(f"chat stream {encoding}", "openai", chat_stream_row())(stream)


declare_encodings()


# --- endings ---


async def chat_abandoned(client, how, **asked):
    """The first events of a stream that the client gives up."""
    stream = await got(client.chat.completions.create(**asked, **script(how)))
    found = await each(stream, limit=5)
    await got(stream.close())
    return found


@case(
    "stream cancelled half-way",
    "openai",
    guessed(PART_ANSWER, outcome="client_closed", model="gpt-4.1-mini-2025-04-14"),
)
async def chat_cancelled(client):
    return await chat_abandoned(client, "slow", **UNTAUGHT_CHAT, **WITH_USAGE)


@case(
    "task cancelled in a stream",
    "openai",
    guessed(PART_ANSWER, outcome="client_closed"),
    modes=("async",),
)
async def task_cancelled(client):
    asked = {**UNTAUGHT_CHAT, **WITH_USAGE, **script("slow")}

    async def read():
        return await each(await client.chat.completions.create(**asked))

    task = asyncio.create_task(read())
    await asyncio.sleep(0.4)
    task.cancel()
    await asyncio.wait([task])
    return task.cancelled()


@case(
    "timeout before the head",
    "openai",
    *[
        unreported(
            **GUESSED_PROMPT,
            model_requested="gpt-4.1-mini",
            status=None,
            outcome="client_closed",
            retry=retry,
        )
        for retry in range(2)
    ],
)
async def timed_out(client):
    client = client.with_options(timeout=0.3, max_retries=1)
    return await got(client.chat.completions.create(**UNTAUGHT_CHAT, **script("late-head")))


@case(
    "stream broken by the provider",
    "openai",
    *[guessed((2, 5), outcome="upstream_failed", error="chunks_truncated")] * 5,
)
async def chat_broken(client):
    asked = {**UNTAUGHT_CHAT, **WITH_USAGE, **script("breaks")}
    create = client.chat.completions.create
    return [await until_broken(await got(create(**asked))) for _ in range(5)]


@case(
    "chat stream of tools without usage",
    "openai",
    estimated("chat.completions", (14, 20), (40, 60), streaming=1, finish_reason="tool_calls"),
)
async def chat_tools_unreported(client):
    asked = {**UNTAUGHT_CHAT, "stream": True, "tools": TOOLS}
    return await each(await got(client.chat.completions.create(**asked)))


@case(
    "forty without usage at once",
    "openai",
    *[guessed(WHOLE_ANSWER, finish_reason="stop")] * 40,
    modes=("async",),
)
async def forty_unreported(client):
    return await asyncio.gather(*[chat_stream_unreported(client) for _ in range(40)])


# --- asking for the usage of streams in the client's stead ---


def asked_row(**more):
    where = {"upstream": "asking", "path": "/asking/v1/chat/completions", "streaming": 1}
    return chat_row(**{**where, **more})


@case(
    "stream without usage, asked for",
    "asking",
    asked_row(stream_usage="injected"),
    asked_usage=1,
)
async def asked(client):
    return await each(await got(client.chat.completions.create(**CHAT, stream=True)))


@case(
    "stream in gzip without usage, asked for",
    "asking",
    asked_row(stream_usage="injected"),
    asked_usage=1,
)
async def asked_gzip(client):
    asked = {**CHAT, "stream": True, **script("gzip")}
    return await each(await got(client.chat.completions.create(**asked)))


@case(
    "stream whose usage the client asks for itself, and one for which it does not want it",
    "asking",
    asked_row(),
    guessed(WHOLE_ANSWER, upstream="asking", finish_reason="stop"),
)
async def asked_by_client(client):
    unwanted = {"stream": True, "stream_options": {"include_usage": False}}
    create = client.chat.completions.create
    return [await chat_stream(client), await each(await got(create(**UNTAUGHT_CHAT, **unwanted)))]


@case(
    "tools, the stream helper and a chat that is no stream, asked for",
    "asking",
    asked_row(stream_usage="injected", finish_reason="tool_calls"),
    asked_row(stream_usage="injected"),
    asked_row(streaming=0),
    asked_usage=2,
)
async def asked_variously(client):
    create = client.chat.completions.create
    found = [await each(await got(create(**CHAT, stream=True, tools=TOOLS)))]
    async with entered(client.chat.completions.stream(**CHAT)) as stream:
        found.append([event.type for event in await each(stream)])
        found.append(await got(stream.get_final_completion()))
    return [*found, await chat(client)]


@case(
    "stream cancelled half-way, asked for",
    "asking",
    guessed(PART_ANSWER, upstream="asking", outcome="client_closed", stream_usage="injected"),
    asked_usage=1,
)
async def asked_and_cancelled(client):
    return await chat_abandoned(client, "slow", **UNTAUGHT_CHAT, stream=True)


@case(
    "provider that will not be asked",
    "refusing",
    guessed(WHOLE_ANSWER, upstream="refusing", finish_reason="stop", stream_usage="refused"),
    *[guessed(WHOLE_ANSWER, upstream="refusing", finish_reason="stop")] * 2,
    modes=("sync",),
    asked_usage=1,
    asked_in_vain=1,
)
async def asked_in_vain(client):
    return [await chat_stream_unreported(client) for _ in range(3)]


# --- reading on when the client has left ---


@case(
    "stream with usage cancelled half-way",
    "draining",
    chat_stream_row(
        upstream="draining",
        path="/draining/v1/chat/completions",
        outcome="client_closed",
    ),
    drained=True,
)
async def drained(client):
    return await chat_abandoned(client, "lingers", **CHAT, **WITH_USAGE)


@case(
    "stream without usage cancelled half-way",
    "draining",
    guessed((56, 61), upstream="draining", finish_reason="stop", outcome="client_closed"),
    drained=True,
)
async def drained_unreported(client):
    return await chat_abandoned(client, "lingers", **UNTAUGHT_CHAT, stream=True)


# --- errors and retries ---


def error_row(status, error, **more):
    return unreported(status=status, error=error, **more)


@case(
    "429 then success",
    "openai",
    error_row(429, "rate_limit_exceeded"),
    chat_row(retry=1),
)
async def retried_429(client):
    return await got(client.chat.completions.create(**CHAT, **script("429-once")))


@case("500 then success", "openai", error_row(500, "server_error"), chat_stream_row(retry=1))
async def retried_500(client):
    asked = {**CHAT, **WITH_USAGE, **script("500-once")}
    return await each(await got(client.chat.completions.create(**asked)))


@case(
    "503 until the SDK gives up",
    "openai",
    *[error_row(503, "server_error", retry=count) for count in range(3)],
)
async def gave_up(client):
    return await got(client.chat.completions.create(**CHAT, **script("503-forever")))


@case("429 not to be retried", "openai", error_row(429, "insufficient_quota"))
async def not_retried(client):
    return await got(client.chat.completions.create(**CHAT, **script("no-retry")))


@case(
    "connection dropped then success",
    "openai",
    unreported(status=502, outcome="upstream_failed", error="no_response"),
    chat_row(retry=1),
    own_answers=True,
)
async def dropped(client):
    return await got(client.chat.completions.create(**CHAT, **script("dropped-once")))


@case("400", "openai", error_row(400, "context_length_exceeded"))
async def refused_400(client):
    return await got(client.chat.completions.create(**CHAT, **script("400")))


@case("401", "openai", error_row(401, "invalid_api_key"))
async def refused_401(client):
    return await got(client.chat.completions.create(**CHAT, **WITH_USAGE, **script("401")))


# --- Responses ---

ASKED_RESPONSE = {"model": "gpt-5.6", "input": "Count the tokens, please."}
RESPONSE = {"upstream": "openai", "model_requested": "gpt-5.6", "model": "gpt-5.6-2026-06-01"}
RESPONSE |= {"service_tier": "default", "finish_reason": "completed"}


def response_row(**more):
    return row("responses", "openai.response", **{**RESPONSE, **more})


@case("response", "openai", response_row())
async def response(client):
    return await got(client.responses.create(**ASKED_RESPONSE))


@case("response stream", "openai", response_row(streaming=1))
async def response_stream(client):
    return await each(await got(client.responses.create(**ASKED_RESPONSE, stream=True)))


@case("response stream helper", "openai", response_row(streaming=1))
async def response_stream_helper(client):
    async with entered(client.responses.stream(**ASKED_RESPONSE)) as stream:
        return [event.type for event in await each(stream)]


@case(
    "response stream cancelled half-way",
    "openai",
    estimated(
        "responses",
        PART_ANSWER,
        (10, 14),
        model_requested="gpt-4.1-mini",
        model="gpt-4.1-mini-2025-04-14",
        streaming=1,
        outcome="client_closed",
    ),
)
async def response_cancelled(client):
    asked = {**ASKED_RESPONSE, "model": "gpt-4.1-mini", "stream": True, **script("slow")}
    stream = await got(client.responses.create(**asked))
    found = await each(stream, limit=8)
    await got(stream.close())
    return found


RETRIEVED = {**RESPONSE, "model_requested": None, "method": "GET", "retry": 0}
QUEUED = row("responses", **{**RESPONSE, "finish_reason": "queued"})
CHARGED_BEFORE = row("responses.retrieve", charged_by=SomeId(), **RETRIEVED)


@case(
    "response in the background, retrieved three times",
    "openai",
    QUEUED,
    row("responses.retrieve", "openai.response", **RETRIEVED),
    CHARGED_BEFORE,
    CHARGED_BEFORE,
    modes=("sync",),
)
async def response_background(client):
    queued = await got(client.responses.create(**ASKED_RESPONSE, background=True))
    return [queued, *[await got(client.responses.retrieve(queued.id)) for _ in range(3)]]


@case(
    "responses retrieved that others have been charged for",
    "openai",
    CHARGED_BEFORE,
    response_row(),
    CHARGED_BEFORE,
)
async def response_retrieved(client):
    before = await got(client.responses.retrieve("resp_background"))
    made = await got(client.responses.create(**ASKED_RESPONSE))
    return [before, made, await got(client.responses.retrieve(made.id))]


# --- the rest ---


@case(
    "legacy completion",
    "openai",
    row(
        "completions",
        "openai.completion",
        model="gpt-3.5-turbo-instruct:20230824-v2",
        finish_reason="stop",
    ),
)
async def completion(client):
    asked = {"model": "gpt-3.5-turbo-instruct", "prompt": "Once"}
    return await got(client.completions.create(**asked))


@case(
    "legacy completion stream",
    "openai",
    estimated("completions", WHOLE_ANSWER, (1, 1), streaming=1, finish_reason="stop"),
)
async def completion_stream(client):
    asked = {"model": "gpt-3.5-turbo-instruct", "prompt": "Once", "stream": True}
    return await each(await got(client.completions.create(**asked)))


EMBEDDED = {"model_requested": "text-embedding-3-small", "model": "text-embedding-3-small"}


@case("embeddings as base64", "openai", row("embeddings", "openai.embedding", **EMBEDDED))
async def embeddings(client):
    asked = {"model": "text-embedding-3-small", "input": ["one", "two"]}
    return await got(client.embeddings.create(**asked))


@case("embeddings as numbers", "openai", row("embeddings", "openai.embedding", **EMBEDDED))
async def embeddings_plain(client):
    asked = {"model": "text-embedding-3-small", "input": "one", "encoding_format": "float"}
    return await got(client.embeddings.create(**asked))


@case(
    "files: upload, list, retrieve, content, delete",
    "openai",
    row("files"),
    *[row("files", method="GET")] * 4,
    row("files", method="DELETE"),
)
async def files(client):
    upload = ("lines.jsonl", io.BytesIO(b'{"custom_id":"1"}\n' * 50_000))
    uploaded = await got(client.files.create(file=upload, purpose="batch"))
    listed = await each(client.files.list(limit=1))
    retrieved = await got(client.files.retrieve(uploaded.id))
    content = (await got(client.files.content(uploaded.id))).content
    return [uploaded, listed, retrieved, content, await got(client.files.delete(uploaded.id))]


IMAGE = {"model_requested": "gpt-image-1", "model": None, "upstream_request_id": "req_trial"}


@case("image", "openai", row("images", "openai.image", **IMAGE))
async def image(client):
    return await got(client.images.generate(model="gpt-image-1", prompt="A fox"))


@case("image edit, multipart", "openai", row("images", "openai.image", **IMAGE))
async def image_edit(client):
    picture = ("fox.png", b"\x89PNG\r\n\x1a\n" + bytes(2000), "image/png")
    return await got(client.images.edit(model="gpt-image-1", prompt="Bluer", image=picture))


SOUND = ("speech.mp3", b"ID3" + bytes(range(256)) * 2000, "audio/mpeg")
HEARD = {"model_requested": "gpt-4o-transcribe"}


@case(
    "transcription, multipart",
    "openai",
    row("audio.transcriptions", "openai.transcription", **HEARD),
)
async def transcription(client):
    return await got(client.audio.transcriptions.create(model="gpt-4o-transcribe", file=SOUND))


@case(
    "transcription stream",
    "openai",
    row("audio.transcriptions", "openai.transcription", **HEARD, streaming=1),
)
async def transcription_stream(client):
    asked = {"model": "gpt-4o-transcribe", "file": SOUND, "stream": True}
    return await each(await got(client.audio.transcriptions.create(**asked)))


@case(
    "transcription by duration",
    "openai",
    row("audio.transcriptions", "openai.duration", model_requested="whisper-1"),
)
async def transcription_duration(client):
    return await got(client.audio.transcriptions.create(model="whisper-1", file=SOUND))


@case(
    "transcription as text",
    "openai",
    row("audio.transcriptions", model_requested="whisper-1"),
)
async def transcription_text(client):
    asked = {"model": "whisper-1", "file": SOUND, "response_format": "text"}
    return await got(client.audio.transcriptions.create(**asked))


SPOKEN = {"model": "gpt-4o-mini-tts", "voice": "alloy", "input": "Hello"}


@case("speech", "openai", row("audio.speech", model_requested="gpt-4o-mini-tts"))
async def speech(client):
    return (await got(client.audio.speech.create(**SPOKEN))).content


@case("speech streamed", "openai", row("audio.speech", model_requested="gpt-4o-mini-tts"))
async def speech_streamed(client):
    async with entered(client.audio.speech.with_streaming_response.create(**SPOKEN)) as answer:
        return b"".join(await each(answer.iter_bytes(4096)))


@case("moderation", "openai", row("moderations", model="omni-moderation-latest"))
async def moderation(client):
    return await got(client.moderations.create(model="omni-moderation-latest", input="Hello"))


@case("models: list, retrieve", "openai", *[row("models", method="GET")] * 2)
async def models(client):
    listed = await each(client.models.list())
    return [listed, await got(client.models.retrieve("gpt-5-mini"))]


@case("unknown endpoint", "openai", row("other", status=404, error="unknown_url"))
async def unknown_endpoint(client):
    return await got(client.post("/of/tomorrow?x=%2F&y", body={"a": 1}, cast_to=object))
