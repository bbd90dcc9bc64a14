"""The cases of Azure OpenAI, OpenRouter, Anthropic and Ollama."""

import io

from cases_openai import (
    ASK,
    ASKED_TOKENS,
    PART_ANSWER,
    TOOLS,
    WHOLE_ANSWER,
    WITH_USAGE,
    chat_abandoned,
    script,
)
from harness import case, each, entered, estimated, got, row, until_broken

# --- Azure OpenAI ---

AZURE = {"upstream": "azure", "provider": "azure", "model": "gpt-4o-2024-11-20"}
AZURE |= {"model_requested": "prod-chat", "finish_reason": "stop"}
ASK_AZURE = {"model": "prod-chat", "messages": ASK}
DEPLOYED = {"path": "/azure/openai/deployments/prod-chat/chat/completions"}


def azure_row(**more):
    return row("chat.completions", "azure.chat", **{**AZURE, **more})


@case("chat of a deployment", "azure", azure_row(**DEPLOYED))
async def azure_chat(client):
    return await got(client.chat.completions.create(**ASK_AZURE))


@case("chat stream of a deployment", "azure", azure_row(**DEPLOYED, streaming=1))
async def azure_stream(client):
    return await each(await got(client.chat.completions.create(**ASK_AZURE, **WITH_USAGE)))


@case("embeddings of a deployment", "azure", row("embeddings", "openai.embedding", upstream="azure"))
async def azure_embeddings(client):
    return await got(client.embeddings.create(model="prod-embed", input="one"))


@case(
    "transcription of a deployment",
    "azure",
    row("audio.transcriptions", "openai.transcription", model=None, model_requested="prod-ears"),
)
async def azure_transcription(client):
    file = ("a.mp3", io.BytesIO(bytes(5000)))
    return await got(client.audio.transcriptions.create(model="prod-ears", file=file))


@case(
    "response without a deployment in the path",
    "azure",
    row("responses", "openai.response", path="/azure/openai/responses", finish_reason="completed"),
)
async def azure_response(client):
    return await got(client.responses.create(model="prod-chat", input="Count"))


@case(
    "400 of a deployment",
    "azure",
    row("chat.completions", status=400, error="context_length_exceeded", upstream="azure"),
)
async def azure_400(client):
    return await got(client.chat.completions.create(**ASK_AZURE, **script("400")))


@case(
    "stream of a deployment cancelled half-way",
    "azure",
    estimated(
        "chat.completions",
        PART_ANSWER,
        ASKED_TOKENS,
        upstream="azure",
        model="gpt-4.1-mini-2025-04-14",
        model_requested="prod-untaught",
        streaming=1,
        outcome="client_closed",
    ),
)
async def azure_cancelled(client):
    asked = {**ASK_AZURE, "model": "prod-untaught", **WITH_USAGE}
    return await chat_abandoned(client, "slow", **asked)


@case("v1 chat", "azure-v1", azure_row(path="/azure/openai/v1/chat/completions"))
async def azure_v1_chat(client):
    return await got(client.chat.completions.create(**ASK_AZURE))


@case("v1 chat stream", "azure-v1", azure_row(streaming=1))
async def azure_v1_stream(client):
    return await each(await got(client.chat.completions.create(**ASK_AZURE, **WITH_USAGE)))


@case("v1 response stream", "azure-v1", row("responses", "openai.response", streaming=1))
async def azure_v1_response(client):
    asked = {"model": "prod-chat", "input": "Count", "stream": True}
    return await each(await got(client.responses.create(**asked)))


# --- OpenRouter ---

ROUTED = {"upstream": "openrouter", "provider": "openrouter", "model": "anthropic/claude-sonnet-4"}
ASK_ROUTER = {"model": "anthropic/claude-sonnet-4", "messages": ASK}


def routed_row(**more):
    return row("chat.completions", "openrouter.chat", **{**ROUTED, "finish_reason": "stop", **more})


@case("chat", "openrouter", routed_row(path="/openrouter/api/v1/chat/completions"))
async def router_chat(client):
    titled = {"HTTP-Referer": "https://trial.example", "X-Title": "Trial"}
    return await got(client.chat.completions.create(**ASK_ROUTER, extra_headers=titled))


@case("chat stream with comments", "openrouter", routed_row(streaming=1))
async def router_stream(client):
    return await each(await got(client.chat.completions.create(**ASK_ROUTER, stream=True)))


@case(
    "error in a stream",
    "openrouter",
    estimated(
        "chat.completions",
        WHOLE_ANSWER,
        ASKED_TOKENS,
        upstream="openrouter",
        model="openai/gpt-4.1-mini",
        streaming=1,
        error="502",
        finish_reason="error",
    ),
)
async def router_error(client):
    asked = {**ASK_ROUTER, "model": "openai/gpt-4.1-mini", "stream": True}
    asked |= script("error-in-stream")
    return await each(await got(client.chat.completions.create(**asked)))


# --- Anthropic ---

ASK_CLAUDE = {"model": "claude-sonnet-5-5", "max_tokens": 1000, "messages": ASK}
# A model that never reports how it ended: see `UNTAUGHT` among the answers.
ASK_UNTAUGHT = {**ASK_CLAUDE, "model": "claude-haiku-4-5"}
CLAUDE = {"upstream": "anthropic", "provider": "anthropic", "model_requested": "claude-sonnet-5-5"}
CLAUDE |= {"upstream_request_id": "req_trial"}
ANSWERED = {**CLAUDE, "model": "claude-sonnet-5-5", "finish_reason": "end_turn"}


def claude_row(usage="anthropic.message", **more):
    return row("messages", usage, **{**ANSWERED, **more})


def claude_stream_row(**more):
    return claude_row("anthropic.stream", streaming=1, **more)


def claude_part_row(output, **more):
    """Of a stream that did not come to its end: the input is in its first event."""
    known = {"model_requested": "claude-haiku-4-5", "model": "claude-haiku-4-5-20251001"}
    known |= {"upstream": "anthropic", "upstream_request_id": "req_trial", "streaming": 1}
    return estimated("messages", output, usage="anthropic.start", **{**known, **more})


def claude_error_row(status, error, **more):
    return row("messages", status=status, error=error, **CLAUDE, **more)


@case("message", "anthropic", claude_row(path="/anthropic/v1/messages"))
async def message(client):
    return await got(client.messages.create(**ASK_CLAUDE))


@case(
    "message whose body names the user",
    "anthropic",
    claude_row(user="u-1"),
    headers={"X-User": None},
)
async def message_of_user(client):
    return await got(client.messages.create(**ASK_CLAUDE, metadata={"user_id": "u-1"}))


@case("tool use", "anthropic", claude_row(finish_reason="tool_use"))
async def tool_use(client):
    tools = [{"name": "weather", "input_schema": TOOLS[0]["function"]["parameters"]}]
    return await got(client.messages.create(**ASK_CLAUDE, tools=tools))


@case("message stream", "anthropic", claude_stream_row())
async def message_stream(client):
    return await each(await got(client.messages.create(**ASK_CLAUDE, stream=True)))


@case("message stream helper", "anthropic", claude_stream_row())
async def message_stream_helper(client):
    async with entered(client.messages.stream(**ASK_CLAUDE)) as stream:
        return [await each(stream.text_stream), await got(stream.get_final_message())]


@case("message stream gzip", "anthropic", claude_stream_row())
async def message_stream_gzip(client):
    asked = {**ASK_CLAUDE, "stream": True, **script("gzip")}
    return await each(await got(client.messages.create(**asked)))


@case("beta message", "anthropic", claude_row())
async def beta_message(client):
    beta = ["context-1m-2025-08-07"]
    return await got(client.beta.messages.create(**ASK_CLAUDE, betas=beta))


@case(
    "message stream cancelled half-way",
    "anthropic",
    claude_part_row(PART_ANSWER, outcome="client_closed"),
)
async def message_cancelled(client):
    return await message_abandoned(client, "slow", ASK_UNTAUGHT)


async def message_abandoned(client, how, asked):
    """The first events of a stream that the client gives up."""
    asked = {**asked, "stream": True, **script(how)}
    stream = await got(client.messages.create(**asked))
    found = await each(stream, limit=6)
    await got(stream.close())
    return found


@case(
    "message stream cancelled half-way",
    "draining-claude",
    claude_stream_row(upstream="draining_claude", outcome="client_closed"),
    drained=True,
)
async def message_drained(client):
    return await message_abandoned(client, "lingers", ASK_CLAUDE)


@case(
    "error in a stream",
    "anthropic",
    claude_part_row(WHOLE_ANSWER, error="overloaded_error"),
)
async def message_error(client):
    asked = {**ASK_UNTAUGHT, "stream": True, **script("error-in-stream")}
    return await each(await got(client.messages.create(**asked)))


@case(
    "message stream broken by the provider",
    "anthropic",
    claude_part_row((1, 6), outcome="upstream_failed", error="chunks_truncated"),
)
async def message_broken(client):
    asked = {**ASK_UNTAUGHT, "stream": True, **script("breaks")}
    return await until_broken(await got(client.messages.create(**asked)))


@case("count of tokens", "anthropic", row("messages.countTokens", path="/anthropic/v1/messages/count_tokens"))
async def count_of_tokens(client):
    return await got(client.messages.count_tokens(model="claude-sonnet-5-5", messages=ASK))


@case(
    "overloaded then success",
    "anthropic",
    claude_error_row(529, "overloaded_error"),
    claude_row(retry=1),
)
async def overloaded(client):
    return await got(client.messages.create(**ASK_CLAUDE, **script("529-once")))


@case(
    "429 then success",
    "anthropic",
    claude_error_row(429, "rate_limit_error"),
    claude_stream_row(retry=1),
)
async def limited(client):
    asked = {**ASK_CLAUDE, "stream": True, **script("429-once")}
    return await each(await got(client.messages.create(**asked)))


@case("400", "anthropic", claude_error_row(400, "invalid_request_error"))
async def claude_400(client):
    return await got(client.messages.create(**ASK_CLAUDE, **script("400")))


@case("401", "anthropic", claude_error_row(401, "authentication_error"))
async def claude_401(client):
    return await got(client.messages.create(**ASK_CLAUDE, **script("401")))


@case("models", "anthropic", row("models", method="GET"))
async def claude_models(client):
    return await each(client.models.list())


# --- Ollama ---

ASK_OLLAMA = {"model": "qwen3:4b", "messages": ASK}
LOCAL = {"upstream": "ollama", "provider": "ollama", "model": "qwen3:4b", "finish_reason": "stop"}


def local_row(endpoint, usage="ollama.chat", **more):
    return row(endpoint, usage, **{**LOCAL, "retry": None, **more})


@case("chat", "ollama", local_row("ollama.chat", path="/ollama/api/chat"))
async def ollama_chat(client):
    return await got(client.chat(**ASK_OLLAMA))


@case("chat stream", "ollama", local_row("ollama.chat", streaming=1))
async def ollama_stream(client):
    return await each(await got(client.chat(**ASK_OLLAMA, stream=True)))


@case("generate stream", "ollama", local_row("ollama.generate", streaming=1))
async def ollama_generate(client):
    return await each(await got(client.generate(model="qwen3:4b", prompt="Why?", stream=True)))


@case(
    "embed",
    "ollama",
    local_row("ollama.embed", "ollama.embed", model="embeddinggemma", finish_reason=None),
)
async def ollama_embed(client):
    return await got(client.embed(model="embeddinggemma", input=["one"]))


@case(
    "models",
    "ollama",
    row("other", method="GET", retry=None, path="/ollama/api/tags", cost_source="free"),
)
async def ollama_tags(client):
    return await got(client.list())


@case(
    "absent model",
    "ollama",
    row(
        "ollama.chat",
        status=404,
        error="error",
        retry=None,
        model_requested="absent",
        cost_source="free",
    ),
)
async def ollama_absent(client):
    return await got(client.chat(model="absent", messages=ASK))


@case("v1 chat", "ollama-v1", local_row("chat.completions", "ollama.v1", retry=0))
async def ollama_v1_chat(client):
    return await got(client.chat.completions.create(**ASK_OLLAMA))


@case("v1 chat stream", "ollama-v1", local_row("chat.completions", "ollama.v1", retry=0, streaming=1))
async def ollama_v1_stream(client):
    return await each(await got(client.chat.completions.create(**ASK_OLLAMA, **WITH_USAGE)))
