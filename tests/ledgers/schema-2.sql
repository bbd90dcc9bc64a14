ALTER TABLE token_usage ADD COLUMN estimate TEXT;
ALTER TABLE token_usage ADD COLUMN stream_usage TEXT;
ALTER TABLE token_usage ADD COLUMN charged_by TEXT;
CREATE TABLE charged (
    key BLOB NOT NULL PRIMARY KEY,
    call_id BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE estimate_calibration (
    provider TEXT NOT NULL,
    model TEXT NOT NULL,
    side TEXT NOT NULL,
    samples INTEGER NOT NULL,
    bias REAL NOT NULL,
    error REAL NOT NULL,
    corrections TEXT NOT NULL,
    learned_at INTEGER NOT NULL,
    PRIMARY KEY (provider, model, side)
) STRICT, WITHOUT ROWID;
