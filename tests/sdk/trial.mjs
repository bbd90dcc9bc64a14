/* The trial with the Node SDKs: a smaller set of the cases, judged as `harness.py` judges them.
 *
 *     trial.mjs PROVIDER TOKENMETER DATABASE PYTHON [ONLY]
 *
 * run from a directory whose node_modules hold the SDKs. Prints a line for each case, and as its last
 * line how many passed and failed.
 */

import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { isDeepStrictEqual } from "node:util";

const HERE = dirname(fileURLToPath(import.meta.url));
const [PROVIDER, TOKENMETER, DATABASE, PYTHON, ONLY = ""] = process.argv.slice(2);
const LEDGER = JSON.parse(readFileSync(join(HERE, "usage.json"), "utf8"));

// The SDKs are installed where the trial is run, not where it is kept.
const installed = createRequire(pathToFileURL(join(process.cwd(), "index.js")));
const openai = await import(pathToFileURL(installed.resolve("openai")).href);
const { default: Anthropic } = await import(
  pathToFileURL(installed.resolve("@anthropic-ai/sdk")).href
);
const { Ollama } = await import(pathToFileURL(installed.resolve("ollama")).href);
const { OpenAI, AzureOpenAI, toFile } = openai.default.OpenAI ? openai.default : openai;

const KEY = "sk-trial-0123456789";
const HOP_BY_HOP = ["connection", "keep-alive", "te", "transfer-encoding"];
const TOKENS = [
  ...["input", "cache_read", "cache_write", "audio_input", "image_input"],
  ...["output", "reasoning", "audio_output", "image_output", "total"],
].map((name) => `${name}_tokens`);

// --- the clients: each API's base URL, directly and through tokenmeter ---

const CLIENTS = {
  openai: (base, through, common) => new OpenAI({ baseURL: `${base}/v1`, ...common }),
  asking: (base, through, common) =>
    new OpenAI({ baseURL: `${base}${through ? "/asking" : ""}/v1`, ...common }),
  draining: (base, through, common) =>
    new OpenAI({ baseURL: `${base}${through ? "/draining" : ""}/v1`, ...common }),
  azure: (base, through, common) =>
    new AzureOpenAI({
      endpoint: base + (through ? "/azure" : ""),
      apiVersion: "2024-10-21",
      ...common,
    }),
  openrouter: (base, through, common) =>
    new OpenAI({ baseURL: `${base}${through ? "/openrouter" : ""}/api/v1`, ...common }),
  anthropic: (base, through, common) =>
    new Anthropic({ baseURL: base + (through ? "/anthropic" : ""), ...common }),
  ollama: (base, through, { defaultHeaders, fetch }) =>
    new Ollama({ host: base + (through ? "/ollama" : "/local"), headers: defaultHeaders, fetch }),
};

// --- one case ---

const CASES = [];

/** Declares a case: a call made with a client of `api`, and the rows the ledger must have of it. */
function declare(name, api, rows, call, how = {}) {
  CASES.push({ name, api, rows, call, ...how });
}

/** Some number from `low` to `high`: where tokens are estimated. */
const about = (low, high) => ({
  holds: (value) => Number.isInteger(value) && low <= value && value <= high,
  toString: () => `${low} to ${high}`,
});

/** The JSON text that says how an estimate came about, of these sides and no other. */
const estimateOf = (...sides) => ({
  holds(value) {
    const told = JSON.parse(value ?? "{}");
    const found = ["input", "output"].filter((side) => side in told);
    return isDeepStrictEqual(found, sides) && told.error_tokens >= 0;
  },
  toString: () => `an estimate of ${sides}`,
});

/** A row whose output, and prompt where `usage` does not report it, is estimated. */
function estimated(endpoint, output, prompt, usage, more) {
  const known = usage && LEDGER[usage].ledger.input_tokens;
  const [low, high] = prompt ?? [known, known];
  return row(endpoint, usage, {
    ...{ usage_source: "estimated", cost_source: "priced" },
    ...{ input_tokens: about(low, high), output_tokens: about(...output) },
    total_tokens: about(low + output[0], high + output[1]),
    estimate: usage ? estimateOf("output") : estimateOf("input", "output"),
    ...more,
  });
}

/** A row of the ledger: these columns, and no other token counts than those of `usage`. */
function row(endpoint, usage, more = {}) {
  return {
    ...Object.fromEntries([...TOKENS, "estimate", "stream_usage"].map((name) => [name, null])),
    ...{ endpoint, method: "POST", status: 200, outcome: "completed", streaming: 0, error: null },
    ...{ retry: 0, usage_source: usage ? "reported" : "none" },
    cost_source: usage ? "priced" : "none",
    ...(usage ? LEDGER[usage].ledger : {}),
    ...more,
  };
}

async function faultsOf(test) {
  const session = `node-${test.api}-${test.name}`.replaceAll(" ", "-");
  const tags = { "X-User": "trial", "X-Session": session, "X-Operation": test.api };
  const direct = await made(test, tags, PROVIDER, false);
  const through = await made(test, tags, TOKENMETER, true);
  const rows = rowsOf(session, test.rows.length);
  const leftBehind = Object.keys(tags).map((name) => name.toLowerCase());
  return [
    differ("result", direct.result, through.result),
    wrongRequests(test, requests(direct, leftBehind), requests(through, [])),
    differ("response heads", heads(direct), heads(through)),
    ...wrongRows(test, rows, { user: "trial", session, operation: test.api }),
    ...ids(through)
      .filter((id) => !rows.some((found) => found.id === id))
      .map((id) => `x-tokenmeter-id without a row: ${id}`),
  ].filter(Boolean);
}

async function made(test, tags, base, through) {
  const seen = [];
  const watched = async (...asked) => {
    const response = await fetch(...asked);
    seen.push([response.status, [...response.headers]]);
    return response;
  };
  const common = { apiKey: KEY, defaultHeaders: tags, fetch: watched };
  const client = CLIENTS[test.api](base, through, common);
  let result;
  try {
    result = plain(await test.call(client));
  } catch (error) {
    const { status, code, type, message } = error;
    result = plain({ raised: error.constructor.name, status, code, type, message, error: error.error });
  }
  const received = await (await fetch(`${PROVIDER}/_trial/received`)).json();
  return { result, seen, received };
}

function plain(value) {
  return JSON.parse(JSON.stringify(value ?? null));
}

function without(headers, names) {
  return headers.filter(([name]) => !names.includes(name.toLowerCase())).sort();
}

/** What the provider received, apart from the headers that should stay behind. */
function requests({ received }, leftBehind) {
  return received.map(({ method, path, headers, body, ended }) => {
    const framing = headers.some(([name]) => name.toLowerCase() === "transfer-encoding");
    let kept = JSON.stringify(without(headers, [...HOP_BY_HOP, ...leftBehind]));
    let text = Buffer.from(body ?? "", "base64").toString("latin1");
    // The boundary of a form is a new one each time.
    const boundary = kept.match(/boundary=([^\s;"\\]+)/)?.[1];
    if (boundary) [kept, text] = [kept, text].map((one) => one.replaceAll(boundary, "BOUNDARY"));
    return { method, path, framing, ended, kept, text };
  });
}

// What tokenmeter puts into a request so that the stream reports its usage.
const ASKED_USAGE = '"stream_options":{"include_usage":true}';

/** A request without what asking for its usage changes: these bytes, the length, the encodings. */
function unasked(request) {
  const changed = ["content-length", "accept-encoding"];
  const kept = JSON.parse(request.kept).filter(([name]) => !changed.includes(name.toLowerCase()));
  const text = request.text.replace(`,${ASKED_USAGE}`, "").replace(`${ASKED_USAGE},`, "");
  return { ...request, kept, text };
}

function wrongRequests({ asked, drained }, direct, through) {
  if (asked) {
    if (!through.every(({ text }) => text.includes(ASKED_USAGE))) return "usage was not asked for";
    [direct, through] = [direct, through].map((all) => all.map(unasked));
  }
  if (drained) {
    if (!through.every(({ ended }) => ended === "whole")) return "not read to the end";
    direct = direct.map((one) => ({ ...one, ended: "whole" }));
  }
  return differ("provider received", direct, through);
}

function heads({ seen }) {
  const dropped = [...HOP_BY_HOP, "x-tokenmeter-id"];
  return seen.map(([status, headers]) => [status, without(headers, dropped)]);
}

function ids({ seen }) {
  const all = seen.flatMap(([, headers]) => headers);
  return all.filter(([name]) => name === "x-tokenmeter-id").map(([, value]) => value);
}

function rowsOf(session, count) {
  const asked = [join(HERE, "ledger.py"), DATABASE, session, String(count)];
  return JSON.parse(execFileSync(PYTHON, asked, { encoding: "utf8" }));
}

function wrongRows(test, rows, tagged) {
  if (rows.length !== test.rows.length) {
    return [`${test.rows.length} rows expected, found ${JSON.stringify(rows)}`];
  }
  return test.rows.flatMap((expected, number) =>
    Object.entries({ ...tagged, ...expected })
      .filter(([column, value]) => {
        const found = rows[number][column];
        return value?.holds ? !value.holds(found) : value !== found;
      })
      .map(
        ([column, value]) =>
          `row ${number} ${column}: ${value} expected, found ${rows[number][column]}`,
      ),
  );
}

/** Where two values begin to differ, if they do. */
function differ(what, direct, through) {
  if (isDeepStrictEqual(direct, through)) return null;
  const [one, other] = [direct, through].map((value) => JSON.stringify(value));
  let at = 0;
  while (one[at] === other[at]) at += 1;
  const excerpt = (text) => `…${text.slice(Math.max(0, at - 60), at + 240)}`;
  return `${what} differ: directly ${excerpt(one)}, through tokenmeter ${excerpt(other)}`;
}

async function each(items, limit = Infinity) {
  const found = [];
  for await (const item of items) {
    found.push(item);
    if (found.length === limit) break;
  }
  return found;
}

/** The items of a stream that breaks, and what it broke with. */
async function untilBroken(items) {
  const found = [];
  try {
    for await (const item of items) found.push(item);
  } catch (error) {
    return [found, `${error}`];
  }
  return found;
}

function script(name) {
  return { headers: { "X-Trial-Script": name } };
}

// --- OpenAI ---

const messages = [{ role: "user", content: "Count the tokens, please. Zoë 🦊" }];
const CHAT = { model: "gpt-5-mini", messages };
// A model that never reports its usage: see `UNTAUGHT` among the answers.
const UNTAUGHT = { ...CHAT, model: "gpt-4.1-mini", stream: true };
const STREAMED = { ...CHAT, stream: true, stream_options: { include_usage: true } };
const SERVED = {
  upstream: "openai",
  model_requested: "gpt-5-mini",
  model: "gpt-5-mini-2025-08-07",
  finish_reason: "stop",
};
const chatRow = (more) => row("chat.completions", "openai.chat", { ...SERVED, ...more });

// Tokens of what is asked here, of the whole answer, and of one that is given up.
const ASKED_TOKENS = [16, 18];
const WHOLE_ANSWER = [7, 10];
const PART_ANSWER = [2, 60];
const guessed = (output, more) =>
  estimated("chat.completions", output, ASKED_TOKENS, null, { streaming: 1, ...more });
const errorRow = (status, error, more) => row("chat.completions", null, { status, error, ...more });

declare("chat", "openai", [chatRow()], (client) => client.chat.completions.create(CHAT));

declare("chat stream with usage", "openai", [chatRow({ streaming: 1 })], async (client) =>
  each(await client.chat.completions.create(STREAMED)),
);

declare(
  "chat stream without usage",
  "openai",
  [guessed(WHOLE_ANSWER, { model: "gpt-4.1-mini-2025-04-14", finish_reason: "stop" })],
  async (client) => each(await client.chat.completions.create(UNTAUGHT)),
);

declare(
  "stream without usage, asked for",
  "asking",
  [chatRow({ streaming: 1, upstream: "asking", stream_usage: "injected" })],
  async (client) => each(await client.chat.completions.create({ ...CHAT, stream: true })),
  { asked: true },
);

declare(
  "stream with usage cancelled half-way",
  "draining",
  [chatRow({ streaming: 1, upstream: "draining", outcome: "client_closed" })],
  async (client) => each(await client.chat.completions.create(STREAMED, script("lingers")), 5),
  { drained: true },
);

declare("chat stream helper", "openai", [chatRow({ streaming: 1 })], async (client) => {
  const { stream_options } = STREAMED;
  const stream = client.chat.completions.stream({ ...CHAT, stream_options });
  return [(await each(stream)).length, await stream.finalChatCompletion()];
});

declare("chat stream gzip", "openai", [chatRow({ streaming: 1 })], async (client) =>
  each(await client.chat.completions.create(STREAMED, script("gzip"))),
);

declare(
  "stream cancelled half-way",
  "openai",
  [
    guessed(PART_ANSWER, {
      ...{ model: "gpt-4.1-mini-2025-04-14", finish_reason: null, outcome: "client_closed" },
    }),
  ],
  async (client) => each(await client.chat.completions.create(UNTAUGHT, script("slow")), 5),
);

declare(
  "aborted before the head",
  "openai",
  [
    row("chat.completions", null, {
      ...{ usage_source: "estimated", input_tokens: about(...ASKED_TOKENS), cost_source: "priced" },
      ...{ estimate: estimateOf("input"), status: null, outcome: "client_closed" },
    }),
  ],
  (client) => {
    const signal = AbortSignal.timeout(300);
    const asked = { ...CHAT, model: UNTAUGHT.model };
    return client.chat.completions.create(asked, { ...script("late-head"), signal });
  },
);

declare(
  "stream broken by the provider",
  "openai",
  [guessed([2, 5], { outcome: "upstream_failed", error: "chunks_truncated" })],
  async (client) => untilBroken(await client.chat.completions.create(UNTAUGHT, script("breaks"))),
);

declare(
  "429 then success",
  "openai",
  [errorRow(429, "rate_limit_exceeded"), chatRow({ retry: 1 })],
  (client) => client.chat.completions.create(CHAT, script("429-once")),
);

declare(
  "500 then success",
  "openai",
  [errorRow(500, "server_error"), chatRow({ retry: 1, streaming: 1 })],
  async (client) => each(await client.chat.completions.create(STREAMED, script("500-once"))),
);

declare("400", "openai", [errorRow(400, "context_length_exceeded")], (client) =>
  client.chat.completions.create(CHAT, script("400")),
);

declare("401", "openai", [errorRow(401, "invalid_api_key")], (client) =>
  client.chat.completions.create(CHAT, script("401")),
);

const responseRow = (more) =>
  row("responses", "openai.response", { finish_reason: "completed", ...more });

declare("response", "openai", [responseRow()], (client) =>
  client.responses.create({ model: "gpt-5.6", input: "Count" }),
);

declare("response stream", "openai", [responseRow({ streaming: 1 })], async (client) =>
  each(await client.responses.create({ model: "gpt-5.6", input: "Count", stream: true })),
);

declare("embeddings", "openai", [row("embeddings", "openai.embedding")], (client) =>
  client.embeddings.create({ model: "text-embedding-3-small", input: ["one", "two"] }),
);

declare(
  "files: upload, list, content, delete",
  "openai",
  [
    row("files"),
    ...[1, 2, 3].map(() => row("files", null, { method: "GET" })),
    row("files", null, { method: "DELETE" }),
  ],
  async (client) => {
    const lines = Buffer.from('{"custom_id":"1"}\n'.repeat(50_000));
    const file = await toFile(lines, "lines.jsonl");
    const uploaded = await client.files.create({ file, purpose: "batch" });
    const listed = await each(client.files.list({ limit: 1 }));
    const content = Buffer.from(await (await client.files.content(uploaded.id)).arrayBuffer());
    return [uploaded, listed, content, await client.files.delete(uploaded.id)];
  },
);

declare(
  "transcription, multipart",
  "openai",
  [row("audio.transcriptions", "openai.transcription", { model_requested: "gpt-4o-transcribe" })],
  async (client) => {
    const file = await toFile(Buffer.alloc(500_000, 7), "speech.mp3", { type: "audio/mpeg" });
    return client.audio.transcriptions.create({ model: "gpt-4o-transcribe", file });
  },
);

declare("speech", "openai", [row("audio.speech")], async (client) => {
  const asked = { model: "gpt-4o-mini-tts", voice: "alloy", input: "Hello" };
  return Buffer.from(await (await client.audio.speech.create(asked)).arrayBuffer());
});

// --- Azure OpenAI, OpenRouter ---

const AZURE = { upstream: "azure", model_requested: "prod-chat", model: "gpt-4o-2024-11-20" };
const azureRow = (more) => row("chat.completions", "azure.chat", { ...AZURE, ...more });

declare("chat of a deployment", "azure", [azureRow()], (client) =>
  client.chat.completions.create({ ...CHAT, model: "prod-chat" }),
);

declare("chat stream of a deployment", "azure", [azureRow({ streaming: 1 })], async (client) =>
  each(await client.chat.completions.create({ ...STREAMED, model: "prod-chat" })),
);

declare(
  "chat stream with comments",
  "openrouter",
  [row("chat.completions", "openrouter.chat", { streaming: 1, upstream: "openrouter" })],
  async (client) => {
    const model = "anthropic/claude-sonnet-4";
    return each(await client.chat.completions.create({ ...CHAT, model, stream: true }));
  },
);

// --- Anthropic ---

const CLAUDE = { model: "claude-sonnet-5-5", max_tokens: 1000, messages };
const claudeRow = (usage, more) =>
  row("messages", usage, { model_requested: "claude-sonnet-5-5", upstream: "anthropic", ...more });

declare("message", "anthropic", [claudeRow("anthropic.message")], (client) =>
  client.messages.create(CLAUDE),
);

declare(
  "message stream",
  "anthropic",
  [claudeRow("anthropic.stream", { streaming: 1, finish_reason: "end_turn" })],
  async (client) => each(await client.messages.create({ ...CLAUDE, stream: true })),
);

declare(
  "message stream helper",
  "anthropic",
  [claudeRow("anthropic.stream", { streaming: 1 })],
  (client) => client.messages.stream(CLAUDE).finalMessage(),
);

declare(
  "message stream cancelled half-way",
  "anthropic",
  [
    estimated("messages", PART_ANSWER, null, "anthropic.start", {
      ...{ upstream: "anthropic", streaming: 1, outcome: "client_closed" },
    }),
  ],
  async (client) =>
    each(
      await client.messages.create(
        { ...CLAUDE, model: "claude-haiku-4-5", stream: true },
        script("slow"),
      ),
      5,
    ),
);

declare("count of tokens", "anthropic", [row("messages.countTokens")], (client) =>
  client.messages.countTokens({ model: "claude-sonnet-5-5", messages }),
);

declare(
  "overloaded then success",
  "anthropic",
  [
    claudeRow(null, { status: 529, error: "overloaded_error" }),
    claudeRow("anthropic.message", { retry: 1 }),
  ],
  (client) => client.messages.create(CLAUDE, script("529-once")),
);

// --- Ollama ---

const localRow = (endpoint, usage, more) =>
  row(endpoint, usage, { upstream: "ollama", retry: null, ...more });

declare("chat", "ollama", [localRow("ollama.chat", "ollama.chat")], (client) =>
  client.chat({ model: "qwen3:4b", messages }),
);

declare(
  "chat stream",
  "ollama",
  [localRow("ollama.chat", "ollama.chat", { streaming: 1, model: "qwen3:4b" })],
  async (client) => each(await client.chat({ model: "qwen3:4b", messages, stream: true })),
);

declare("embed", "ollama", [localRow("ollama.embed", "ollama.embed")], (client) =>
  client.embed({ model: "embeddinggemma", input: "one" }),
);

// --- the run ---

const versions = ["openai", "@anthropic-ai/sdk", "ollama"].map((name) => {
  const path = join(process.cwd(), "node_modules", name, "package.json");
  return `${name} ${JSON.parse(readFileSync(path, "utf8")).version}`;
});
console.log(`node SDKs: ${versions.join(", ")}`);
const count = { passed: 0, failed: 0 };
for (const test of CASES) {
  const name = `node ${test.api}: ${test.name}`;
  if (!name.includes(ONLY)) continue;
  const faults = await faultsOf(test);
  console.log(faults.length ? "FAILED " : "ok     ", name);
  for (const fault of faults) console.log("         ", fault);
  count[faults.length ? "failed" : "passed"] += 1;
}
console.log(count.passed, count.failed);
process.exit(0);
