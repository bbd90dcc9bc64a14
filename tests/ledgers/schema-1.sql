CREATE TABLE token_usage (
    id TEXT NOT NULL PRIMARY KEY,
    created_at INTEGER NOT NULL,
    upstream TEXT NOT NULL,
    provider TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    method TEXT NOT NULL,
    path TEXT NOT NULL,
    model_requested TEXT,
    model TEXT,
    user TEXT,
    session TEXT,
    operation TEXT,
    attempt INTEGER,
    metadata TEXT,
    key_id TEXT,
    input_tokens INTEGER,
    cache_read_tokens INTEGER,
    cache_write_tokens INTEGER,
    audio_input_tokens INTEGER,
    image_input_tokens INTEGER,
    output_tokens INTEGER,
    reasoning_tokens INTEGER,
    audio_output_tokens INTEGER,
    image_output_tokens INTEGER,
    total_tokens INTEGER,
    usage_source TEXT NOT NULL,
    cost_usd INTEGER,
    cost_source TEXT NOT NULL,
    computed_cost_usd INTEGER,
    price_id TEXT,
    status INTEGER,
    streaming INTEGER NOT NULL,
    finish_reason TEXT,
    outcome TEXT NOT NULL,
    error TEXT,
    retry INTEGER,
    upstream_request_id TEXT,
    service_tier TEXT,
    duration_ms INTEGER,
    time_to_first_byte_ms INTEGER,
    time_to_first_token_ms INTEGER,
    usage_json TEXT
) STRICT;
CREATE INDEX token_usage_by_time ON token_usage (created_at);
CREATE INDEX token_usage_by_user ON token_usage (user, created_at) WHERE user IS NOT NULL;
CREATE INDEX token_usage_by_session ON token_usage (session) WHERE session IS NOT NULL;
CREATE TABLE open_calls (
    id TEXT NOT NULL PRIMARY KEY,
    record TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE journal_progress (
    file TEXT NOT NULL PRIMARY KEY,
    offset INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
