"""The clients of the trial: each API's official SDK, pointed directly at the provider or, as
tokenmeter's users point it, at tokenmeter. Owns base URLs; sees every response head as it comes.
"""

import anthropic
import ollama
import openai

KEY = "sk-trial-0123456789"

# Each API's base URL, directly and through tokenmeter.
BASES = {
    "openai": ("/v1", "/v1"),
    "openai-named": ("/v1", "/openai/v1"),
    "asking": ("/v1", "/asking/v1"),
    "refusing": ("/refusing/v1", "/refusing/v1"),
    "draining": ("/v1", "/draining/v1"),
    "draining-claude": ("", "/draining_claude"),
    "azure": ("", "/azure"),
    "azure-v1": ("/openai/v1", "/azure/openai/v1"),
    "openrouter": ("/api/v1", "/openrouter/api/v1"),
    "anthropic": ("", "/anthropic"),
    "ollama": ("/local", "/ollama"),
    "ollama-v1": ("/local/v1", "/ollama/v1"),
}


def make_client(api, mode, address, through, tags, seen):
    base = address + BASES[api][1 if through else 0]
    is_async = mode == "async"
    hooks = {"response": [watcher(seen, is_async)]}
    if api == "ollama":
        make = ollama.AsyncClient if is_async else ollama.Client
        return make(host=base, headers=tags, event_hooks=hooks)
    is_claude = api in ("anthropic", "draining-claude")
    sdk = anthropic if is_claude else openai
    http = sdk.DefaultAsyncHttpxClient if is_async else sdk.DefaultHttpxClient
    common = {"api_key": KEY, "default_headers": tags, "http_client": http(event_hooks=hooks)}
    if is_claude:
        make = anthropic.AsyncAnthropic if is_async else anthropic.Anthropic
        return make(base_url=base, **common)
    if api == "azure":
        make = openai.AsyncAzureOpenAI if is_async else openai.AzureOpenAI
        return make(azure_endpoint=base, api_version="2024-10-21", **common)
    make = openai.AsyncOpenAI if is_async else openai.OpenAI
    return make(base_url=base, **common)


def watcher(seen, is_async):
    """A hook that notes each response's status and headers, as they were written."""

    def note(response):
        headers = [(name.decode(), value.decode()) for name, value in response.headers.raw]
        seen.append((response.status_code, headers))

    async def note_async(response):
        note(response)

    return note_async if is_async else note
