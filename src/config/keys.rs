//! Every key of the configuration: its name, what kind of value it takes, its default and its meaning.
//! The one truth from which the file reader, the environment, the checks and the commented example
//! file are made. Knows nothing of where a value was typed.

/// What may be written for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A string in the file.
    Text,
    /// A string in the file; relative paths start from the working directory.
    Path,
    /// A string with a unit: `"250ms"`, `"5s"`, `"10m"`.
    Duration,
    /// A whole number.
    Count,
    /// A whole number of bytes, or a string with a unit: `"64KiB"`.
    Size,
    /// A number from 0 to 1.
    Share,
    /// `true` or `false`.
    Switch,
    /// A list of strings in the file, separated by commas in the environment.
    List,
    /// A section of names and strings; in the environment `name=value,name=value`, where an upstream has
    /// none.
    Map,
    /// The environment only, so that it ends up in no repository.
    Secret,
}

impl Kind {
    /// For a complaint: "expected …".
    pub fn expects(self) -> &'static str {
        match self {
            Kind::Text | Kind::Path | Kind::Secret => "a string in quotes",
            Kind::Duration => "a duration such as \"250ms\", \"5s\" or \"10m\"",
            Kind::Count => "a whole number",
            Kind::Size => "a number of bytes or a size such as \"64KiB\"",
            Kind::Share => "a number from 0 to 1 such as 0.1",
            Kind::Switch => "true or false",
            Kind::List => "a list of strings such as [\"x-user\"]",
            Kind::Map => "a section of names and strings",
        }
    }

    /// Writes text of this kind as TOML does.
    pub fn to_toml(self, text: &str) -> String {
        match self {
            Kind::Count | Kind::Share | Kind::Switch => text.to_owned(),
            Kind::List => {
                let quoted: Vec<String> = list(text).map(|item| format!("\"{item}\"")).collect();
                format!("[{}]", quoted.join(", "))
            }
            _ => format!("\"{text}\""),
        }
    }
}

/// The items of a list that was written in one string.
pub(super) fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

/// What holds where nothing was typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// This, as it could have been typed.
    Value(&'static str),
    /// Nothing; `example` is what one could type.
    Nothing { example: &'static str },
}

/// One key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Dotted, as in the file: `timeouts.connect`.
    pub name: &'static str,
    pub kind: Kind,
    pub fallback: Fallback,
    /// What it means, for the commented file; lines are wrapped by hand.
    pub about: &'static str,
}

/// What every environment variable of tokenmeter's begins with.
pub const ENV_PREFIX: &str = "TOKENMETER_";

/// Names the configuration file itself, so it is not a key of the file.
pub const ENV_CONFIG: &str = "TOKENMETER_CONFIG";

/// Where reports are asked for, as with `--url`.
pub const ENV_URL: &str = "TOKENMETER_URL";

/// The admin token, the running one's own and that of a report with `--url`.
pub const ENV_ADMIN_TOKEN: &str = "TOKENMETER_ADMIN_TOKEN";

/// Names a file that holds that token, where it is not set itself: secrets of containers and of systemd are
/// files.
pub const ENV_ADMIN_TOKEN_FILE: &str = "TOKENMETER_ADMIN_TOKEN_FILE";

/// Variables that are read and stand for no key.
pub const ENV_ELSEWHERE: &[&str] = &[ENV_CONFIG, ENV_URL, ENV_ADMIN_TOKEN_FILE];

/// Begins the variables that set a key of one upstream: `TOKENMETER_UPSTREAMS_AZURE_BASE_URL`.
pub const ENV_UPSTREAMS: &str = "TOKENMETER_UPSTREAMS_";

impl Key {
    /// The part of an environment variable's name that stands for this key: `TIMEOUTS_CONNECT`.
    pub fn env_suffix(&self) -> String {
        self.name.replace('.', "_").to_uppercase()
    }

    /// The environment variable of a global key.
    pub fn env_name(&self) -> String {
        format!("{ENV_PREFIX}{}", self.env_suffix())
    }

    /// The section it stands in and its name there: `("timeouts", "connect")`, `("", "listen")`.
    pub fn section_and_leaf(&self) -> (&'static str, &'static str) {
        self.name.rsplit_once('.').unwrap_or(("", self.name))
    }

    /// The default as text, or what one could type.
    pub fn sample(&self) -> &'static str {
        match self.fallback {
            Fallback::Value(text) | Fallback::Nothing { example: text } => text,
        }
    }
}

/// Declares keys as constants and, in the same order, as a list.
macro_rules! keys {
    ($(#[$doc:meta])* $list:ident: $($constant:ident = $name:literal, $kind:ident, $fallback:expr, $about:literal;)*) => {
        $(pub(super) const $constant: Key =
            Key { name: $name, kind: Kind::$kind, fallback: $fallback, about: $about };)*
        $(#[$doc])*
        pub const $list: &[Key] = &[$($constant),*];
    };
}

const fn value(text: &'static str) -> Fallback {
    Fallback::Value(text)
}

const fn nothing(example: &'static str) -> Fallback {
    Fallback::Nothing { example }
}

keys! {
    /// The keys that are not about one upstream. Keys of one section stand together.
    GLOBAL:
    LISTEN = "listen", Text, value("127.0.0.1:4100"),
        "Where clients connect: an IP address and a port. \"0.0.0.0:4100\" lets other machines in; set tls\n\
         then, or put TLS in front, because keys pass through. docs/ACCESS.md tells more.";
    DATABASE = "database", Path, value("tokenmeter.db"),
        "The ledger: a SQLite file. The journal and the admin token are kept beside it.";
    PRICING = "pricing", Path, nothing("pricing.toml"),
        "The price table. Without it: the table built into the binary.";
    DEFAULT_UPSTREAM = "default_upstream", Text, value("openai"),
        "Where a path goes that begins with no upstream's name: /v1/chat/completions.";
    JOURNAL_DAYS = "journal_days", Count, value("7"),
        "How many days of journal are kept after they are wholly in the database.";
    RETENTION_DAYS = "retention_days", Count, nothing("365"),
        "How many days the ledger's rows are kept. Their sums by half hour stay for ever, so totals by\n\
         time, user, model, operation and so on do too. Without it: rows stay as well.";
    JOURNAL_SYNC = "journal_sync", Text, value("none"),
        "What a power cut may take; a crash of tokenmeter takes nothing in any case. \"none\": what the\n\
         operating system has not yet written to the disk, some seconds as a rule. \"interval\": the last\n\
         second. \"call\": nothing of a call whose answer has ended; the end of each answer waits for the\n\
         disk, a millisecond or many, as docs/LEDGER.md tells.";
    ON_LEDGER_FAILURE = "on_ledger_failure", Text, value("serve"),
        "What becomes of new calls while the journal cannot be written. \"serve\": they pass, and their\n\
         records wait in memory, 64 MiB of them. \"refuse\": they are answered 503 and not sent, until the\n\
         journal can be written again.";
    SHUTDOWN_GRACE = "shutdown_grace", Duration, value("30s"),
        "How long calls in flight may go on after SIGTERM or SIGINT. \"0s\" waits for none.";
    WORKERS = "workers", Count, nothing("4"),
        "Threads that serve calls. Without it: one for each core.";
    LOG = "log", Text, value("info"),
        "What is logged to stderr: error, warn, info, debug, trace, or a filter for each part such as\n\
         \"warn,tokenmeter::ledger=debug\".";
    LOG_FORMAT = "log_format", Text, value("text"),
        "\"text\": lines for people. \"json\": an object a line, for what collects logs.";
    LOG_CALLS = "log_calls", Switch, value("false"),
        "Whether each call is a line of the log, at level info: who, what, how much, how it ended.";
    CA_FILE = "ca_file", Path, nothing("/etc/ssl/company-ca.pem"),
        "PEM certificates to trust besides the usual ones, for https upstreams.";
    ADMIN_TOKEN = "admin_token", Secret, nothing("…"),
        "The token of the admin API and dashboard. Without it one is made at the first start and kept,\n\
         mode 0600, in tokenmeter.token beside the database.";
    METRICS_PUBLIC = "metrics_public", Switch, value("false"),
        "Whether GET /metrics answers without the admin token.";
    METRICS_LABELS = "metrics_labels", List, value("upstream, provider, endpoint, model, operation"),
        "By what calls are told apart at GET /metrics: upstream, provider, endpoint, model, operation,\n\
         user, metadata.NAME. Each combination that occurs is some twenty lines there.";
    METRICS_SERIES = "metrics_series", Count, value("1000"),
        "How many such combinations are kept, 10000 at most. Beyond, models, operations, users and metadata\n\
         are `other`.";
    ADMIN_LISTEN = "admin.listen", Text, nothing("127.0.0.1:4101"),
        "An address of its own for the admin API, the dashboard and /metrics. They are not at `listen` then;\n\
         /healthz and /readyz are at both. Without it: all is at `listen`.";
    CLIENTS_NETWORKS = "clients.networks", List, nothing("10.0.0.0/8, ::1"),
        "From where calls are let in: networks or addresses, as the connection has them; X-Forwarded-For is\n\
         never believed. Calls from elsewhere are answered 403 `forbidden`. Without it: from everywhere.";
    CLIENTS_KEYS = "clients.keys", List, nothing("key:0123456789ab"),
        "With which keys calls are let in: fingerprints, as `tokenmeter fingerprint` prints them. Where there\n\
         are networks too, a call must satisfy both. Without it: with any key, and without.";
    PRICE_UPDATES_EVERY = "price_updates.every", Duration, nothing("24h"),
        "How often public price lists are read, through the upstream of their provider, and what differs\n\
         from the price table is logged. Without it: never. `tokenmeter prices update` does it by hand.";
    PRICE_UPDATES_WRITE = "price_updates.write", Switch, value("false"),
        "Whether what differs is also written into the file that `pricing` names: new models, and changed\n\
         prices as ones that hold from then on. What was written by hand stays, and so does what is odd.";
    PRICE_UPDATES_LISTS = "price_updates.lists", List, value("openrouter"),
        "Which lists: openrouter.";
    TLS_CERTIFICATE = "tls.certificate", Path, nothing("/etc/tokenmeter/tls.crt"),
        "PEM certificate, followed by those between it and the authority, with which clients are spoken to\n\
         over TLS. Without it: plain HTTP. Read again when the file changes, and on SIGHUP.";
    TLS_KEY = "tls.key", Path, nothing("/etc/tokenmeter/tls.key"),
        "Its private key, PEM.";
    TLS_CLIENT_CA = "tls.client_ca", Path, nothing("/etc/tokenmeter/clients-ca.pem"),
        "PEM certificates of authorities: only clients with a certificate that one of them has signed get\n\
         a connection. Without it clients need none.";
    TAG_USER = "tags.user", List, value("x-user"),
        "Headers that say on whose behalf a call is made.";
    TAG_SESSION = "tags.session", List, value("x-session"),
        "Headers that say which session, job or conversation a call belongs to.";
    TAG_OPERATION = "tags.operation", List, value("x-operation"),
        "Headers that say what a call is for: rag_answer, embedding, …";
    CONNECT = "timeouts.connect", Duration, value("5s"),
        "Reaching an upstream: its name, TCP and TLS.";
    RESPONSE_HEAD = "timeouts.response_head", Duration, value("600s"),
        "From the end of the request to the first line of the answer. A model that does not stream\n\
         thinks first and answers then, so this is as long as the official SDKs wait.";
    IDLE = "timeouts.idle", Duration, value("600s"),
        "Silence in the middle of a body, up or down. How long a whole body takes is not limited.";
    POOL_IDLE = "timeouts.pool_idle", Duration, value("60s"),
        "How long an unused connection to an upstream is kept for the next call.";
    REQUEST_HEAD = "timeouts.request_head", Duration, value("15s"),
        "How long a client may take to send a request's head, and before that for its TLS handshake.";
    KEEP_ALIVE = "timeouts.keep_alive", Duration, value("75s"),
        "How long a client may keep a connection open without a call.";
    CONNECTIONS = "limits.connections", Count, value("10000"),
        "Client connections at a time. For the next one the connection goes that has been idle for longest;\n\
         where none is idle, its calls are answered 503 `overloaded`. Fewer where the system allows too few\n\
         file descriptors; the log says so.";
    CALLS = "limits.calls", Count, value("10000"),
        "Calls at a time, over all connections: one of HTTP/2 has many. The next one waits.";
    QUEUE = "limits.queue", Count, value("1000"),
        "Calls that wait for one of those to end, first come, first served. The next one is answered 503\n\
         `overloaded`, which SDKs take as a reason to try again. 0: none waits.";
    QUEUE_WAIT = "limits.queue_wait", Duration, value("5s"),
        "How long a call waits. Then it is answered 503 as well.";
    LIMIT_HEAD = "limits.request_head", Size, value("64KiB"),
        "The head of a request, 8KiB at least; a larger one is answered 431.";
    LIMIT_HEADERS = "limits.request_headers", Count, value("100"),
        "Headers of a request; more are answered 431.";
    LIMIT_BODY = "limits.request_body", Size, nothing("64MiB"),
        "The body of a request; a larger one is answered 413. Without it: no limit, because bodies are\n\
         passed on as they come and take no memory.";
    OTLP_ENDPOINT = "otlp.endpoint", Text, nothing("http://localhost:4318"),
        "An OpenTelemetry collector, which is sent a span for each call, and metrics. /v1/traces and\n\
         /v1/metrics are appended. Without it nothing is sent anywhere, unless the standard variable\n\
         OTEL_EXPORTER_OTLP_ENDPOINT is set; docs/OPENTELEMETRY.md tells more.";
    OTLP_PROTOCOL = "otlp.protocol", Text, value("http/protobuf"),
        "The only one: collectors' port 4318. gRPC, their port 4317, is not spoken.";
    OTLP_TRACES = "otlp.traces", Switch, value("true"),
        "Whether spans are sent.";
    OTLP_METRICS = "otlp.metrics", Switch, value("true"),
        "Whether metrics are sent.";
    OTLP_INTERVAL = "otlp.interval", Duration, value("60s"),
        "How often metrics are sent.";
    OTLP_SAMPLE_RATIO = "otlp.sample_ratio", Share, value("1.0"),
        "The share of calls that get a span. Where the client sends a traceparent, that decides.";
    OTLP_PROFILE = "otlp.profile", Text, value("latest"),
        "Which names of OpenTelemetry's GenAI conventions are used. \"latest\": gen_ai.client.inference.*.\n\
         \"previous\": gen_ai.client.token.usage and its like, which most dashboards read. \"both\".";
    OTLP_SERVICE_NAME = "otlp.service_name", Text, value("tokenmeter"),
        "What the service is called there.";
    OTLP_TIMEOUT = "otlp.timeout", Duration, value("10s"),
        "How long a batch may take to be sent, tries again included.";
    OTLP_CA_FILE = "otlp.ca_file", Path, nothing("/etc/ssl/company-ca.pem"),
        "PEM certificates to trust for it, instead of the global ca_file.";
    OTLP_HEADERS = "otlp.headers", Map, nothing("x-scope-orgid = \"team-a\""),
        "Headers of every request to it. For keys there is TOKENMETER_OTLP_HEADERS=name=value,name=value\n\
         with %2C for a comma in a value.";
    OTLP_RESOURCE = "otlp.resource", Map, nothing("\"deployment.environment.name\" = \"production\""),
        "What else is said of the process.";
}

keys! {
    /// The keys of one upstream, under `[upstreams.NAME]`.
    UPSTREAM:
    BASE_URL = "base_url", Text, nothing("https://RESOURCE.openai.azure.com"),
        "What the rest of the path is appended to. Known names have one built in.";
    PROVIDER = "provider", Text, nothing("azure"),
        "Whose price list applies. Without it: the upstream's name.";
    API_KEY_ENV = "api_key_env", Text, nothing("AZURE_OPENAI_API_KEY"),
        "The environment variable that holds the provider's key. With it tokenmeter puts that key in,\n\
         and clients use keys of tokenmeter's own. Without it the client's own key passes through.\n\
         Not in this version, which has no keys of its own yet: `serve` refuses to start with it.";
    HTTP2 = "http2", Text, nothing("auto"),
        "\"auto\": as https negotiates, HTTP/1.1 over http. \"never\". \"always\": over http without asking.";
    STREAM_USAGE = "stream_usage", Text, value("off"),
        "Streams of the OpenAI dialect report their usage only if the request has\n\
         stream_options.include_usage. \"inject\": tokenmeter puts it into requests that say nothing of it\n\
         and takes what it adds out of the answer, so that clients see no difference. It holds such\n\
         requests until they are whole, and gives up accept-encoding for them. A provider that refuses\n\
         gets the request again as it was. \"off\": nothing is changed, and streams that report no usage\n\
         are recorded so. No effect for providers that report it unasked: openrouter, mistral, deepseek,\n\
         groq, cerebras, together, zai, perplexity, fireworks, vercel, copilot.";
    ON_DISCONNECT = "on_disconnect", Text, value("cancel"),
        "What becomes of a call when its client leaves before the end. \"cancel\": the provider's\n\
         connection is closed at once, so that it can stop. \"drain\": the answer is read on for its usage,\n\
         for providers that run on to the end and bill it anyway.";
    DRAIN_SECONDS = "drain_seconds", Count, value("60"),
        "How long an answer is read on, from when the client has left.";
    DRAIN_BYTES = "drain_bytes", Size, value("16MiB"),
        "How much of an answer is read on.";
    TRACE_CONTEXT = "trace_context", Text, value("pass"),
        "What the upstream hears of the trace that a call is part of (traceparent, tracestate). \"pass\":\n\
         what the client says. \"own\": tokenmeter's span as the parent, for servers of one's own whose\n\
         spans are to hang beneath it; without otlp.endpoint as \"pass\". \"drop\": nothing.";
    UPSTREAM_CA_FILE = "ca_file", Path, nothing("/etc/ssl/company-ca.pem"),
        "Instead of the global one.";
    UPSTREAM_CONNECT = "timeouts.connect", Duration, nothing("5s"), "Instead of the global one.";
    UPSTREAM_RESPONSE_HEAD = "timeouts.response_head", Duration, nothing("600s"),
        "Instead of the global one.";
    UPSTREAM_IDLE = "timeouts.idle", Duration, nothing("600s"), "Instead of the global one.";
    UPSTREAM_POOL_IDLE = "timeouts.pool_idle", Duration, nothing("60s"),
        "Instead of the global one.";
    DEPLOYMENTS = "deployments", Map, nothing("prod-chat = \"gpt-4o\""),
        "Deployment name -> model, where the answer does not tell the model.";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_and_variables_are_unique() {
        for list in [GLOBAL, UPSTREAM] {
            let names: BTreeSet<_> = list.iter().map(|key| key.name).collect();
            let suffixes: BTreeSet<_> = list.iter().map(Key::env_suffix).collect();
            assert_eq!(names.len(), list.len());
            assert_eq!(suffixes.len(), list.len());
        }
        let taken = [ENV_UPSTREAMS, "TOKENMETER_SERVICE_", "TOKENMETER_PORT"];
        let names = || GLOBAL.iter().map(Key::env_name);
        assert!(!taken.iter().any(|taken| names().any(|name| name.starts_with(taken))));
    }

    #[test]
    fn lists_are_written_as_toml_lists() {
        assert_eq!(Kind::List.to_toml("x-user, x-team"), "[\"x-user\", \"x-team\"]");
        assert_eq!(Kind::Count.to_toml("7"), "7");
        assert_eq!(Kind::Duration.to_toml("5s"), "\"5s\"");
    }
}
