-- A ledger of schema 3 with five made-up calls.
BEGIN TRANSACTION;
CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
INSERT INTO users VALUES(1,'ada.abbott@northwind.example');
INSERT INTO users VALUES(2,'alan.adler@northwind.example');
CREATE TABLE sessions (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
INSERT INTO sessions VALUES(1,'b8b2f713-773f-4854-93d7-7ce361793115');
INSERT INTO sessions VALUES(2,'ea689c82-23a6-4df6-a3cb-36776d8265b7');
INSERT INTO sessions VALUES(3,'0b969851-6b20-44be-a89e-afa5da1ee637');
CREATE TABLE paths (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
INSERT INTO paths VALUES(1,'/gemini/v1beta/models/gemini-3.6-flash:generateContent');
INSERT INTO paths VALUES(2,'/azure/openai/deployments/prod-mini/chat/completions');
INSERT INTO paths VALUES(3,'/v1/responses');
CREATE TABLE shapes (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
INSERT INTO shapes VALUES(1,'{"promptTokenCount":%s,"candidatesTokenCount":%s,"totalTokenCount":%s,"promptTokensDetails":[{"modality":"TEXT","tokenCount":%s}],"thoughtsTokenCount":%s,"serviceTier":"standard"}');
INSERT INTO shapes VALUES(2,'{"completion_tokens":%s,"completion_tokens_details":{"accepted_prediction_tokens":%s,"audio_tokens":%s,"reasoning_tokens":%s,"rejected_prediction_tokens":%s},"prompt_tokens":%s,"prompt_tokens_details":{"audio_tokens":%s,"cached_tokens":%s},"total_tokens":%s}');
INSERT INTO shapes VALUES(3,'{"input":{"method":"bpe","error":%s},"output":{"method":"bpe","error":%s},"unseen":["reasoning"],"error_tokens":%s}');
INSERT INTO shapes VALUES(4,'{"input_tokens":%s,"input_tokens_details":{"cache_write_tokens":%s,"cached_tokens":%s},"output_tokens":%s,"output_tokens_details":{"reasoning_tokens":%s},"total_tokens":%s}');
CREATE TABLE kinds (
            id INTEGER PRIMARY KEY,
            upstream TEXT,
            provider TEXT,
            endpoint TEXT,
            method TEXT,
            model_requested TEXT,
            model TEXT,
            operation TEXT,
            attempt INTEGER,
            metadata TEXT,
            key_id TEXT,
            usage_source TEXT,
            cost_source TEXT,
            price_id TEXT,
            status INTEGER,
            streaming INTEGER,
            finish_reason TEXT,
            outcome TEXT,
            error TEXT,
            retry INTEGER,
            service_tier TEXT,
            stream_usage TEXT,
            charged INTEGER NOT NULL,
            varied INTEGER NOT NULL,
            class INTEGER NOT NULL,
            digest BLOB NOT NULL UNIQUE,
            class_digest BLOB NOT NULL
        ) STRICT;
INSERT INTO kinds VALUES(1,'gemini','gemini','gemini.generateContent','POST','gemini-3.6-flash','gemini-3.6-flash','summarize',NULL,'{"team":"marketing"}',NULL,'reported','priced','gemini/gemini-3.6-flash*',200,0,'STOP','completed',NULL,NULL,'standard',NULL,0,0,1,X'dafbb54e0a3e443fdcf74e6d91db7ac4',X'1c1519a8aa88ea42bb03ac07567ed60c');
INSERT INTO kinds VALUES(2,'azure','azure','chat.completions','POST','gpt-5-mini','gpt-5-mini-2025-08-07','rag_answer',1,'{"team":"support","collection":"handbook"}',NULL,'reported','priced','azure/gpt-5-mini-2025-08-07',200,1,'stop','completed',NULL,0,NULL,NULL,0,0,2,X'33031334e7d9f3055dd3e3f053d740ef',X'22817aa1a19d9685cdf3cc65335569cd');
INSERT INTO kinds VALUES(3,'azure','azure','chat.completions','POST','gpt-5-mini','gpt-5-mini-2025-08-07','rag_answer',1,'{"team":"support","collection":"handbook"}',NULL,'estimated','priced','azure/gpt-5-mini-2025-08-07',200,1,'stop','completed',NULL,0,NULL,NULL,0,0,3,X'a0c8732b10eb8202d4593f43c947f503',X'53a1471336d321de0fb634dcf4fd11c7');
INSERT INTO kinds VALUES(4,'openai','openai','responses','POST','gpt-5.4','gpt-5.4-2026-03-05','code_review',1,'{"team":"engineering","repository":"checkout"}',NULL,'reported','priced','openai/gpt-5.4',200,0,'completed','completed',NULL,0,'default',NULL,0,0,4,X'fdf352a303a99586040041284452a46e',X'21e01f043d6ddb5ce1f5697cfe19905e');
INSERT INTO kinds VALUES(5,'openai','openai','responses','POST','gpt-5.4','gpt-5.4-2026-03-05','code_review',2,'{"team":"engineering","repository":"checkout"}',NULL,'reported','priced','openai/gpt-5.4',200,0,'completed','completed',NULL,0,'default',NULL,0,0,4,X'8327ac1268e23e665fb56b5011830399',X'21e01f043d6ddb5ce1f5697cfe19905e');
CREATE TABLE calls (
            key INTEGER PRIMARY KEY,
            id BLOB NOT NULL,
            kind INTEGER NOT NULL,
            user INTEGER,
            session INTEGER,
            path ANY NOT NULL,
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
            cost_usd INTEGER,
            computed_cost_usd INTEGER,
            upstream_request_id TEXT,
            duration_ms INTEGER,
            time_to_first_byte_ms INTEGER,
            time_to_first_token_ms INTEGER,
            usage_shape INTEGER,
            usage TEXT,
            estimate_shape INTEGER,
            estimate TEXT,
            charged_by BLOB,
            own TEXT
        ) STRICT;
INSERT INTO calls VALUES(58821394471124992,X'01a1f37e454a713e90f971f870233709',1,1,1,1,4430,NULL,NULL,NULL,NULL,1274,66,NULL,NULL,5704,8100000,8100000,'63ADt6VPBp6lHil1Sbfjkl',5773,5772,NULL,1,'[4430,1208,5704,4430,66]',NULL,NULL,NULL,NULL);
INSERT INTO calls VALUES(58821495037493248,X'01a1f3ad19bc731f9048a11a1a8dbc6f',2,1,2,2,4710,0,NULL,0,NULL,249,58,0,NULL,4959,1675500,1675500,'71b9c62f-6704-4c55-9b04-96e5cc631f04',3722,1062,1213,2,'[249,0,0,58,0,4710,0,0,4959]',NULL,NULL,NULL,NULL);
INSERT INTO calls VALUES(58821496284446720,X'01a1f3adae62730d9e0eb46d99d44dd3',3,1,2,2,6482,NULL,NULL,NULL,NULL,418,NULL,NULL,NULL,6900,2456500,2456500,'6e757abd-2c75-4623-8ade-80bfc2855d6a',7834,1176,1344,NULL,NULL,3,'["0.02","0.02",138]',NULL,NULL);
INSERT INTO calls VALUES(58821984650428416,X'01a1f4911825717580424df098aa78b7',4,2,3,3,4715,0,0,NULL,NULL,5125,4556,NULL,NULL,9840,88662500,88662500,'req_00649834e27141beb3f3c6d3b7389860',69303,69301,NULL,4,'[4715,0,0,5125,4556,9840]',NULL,NULL,NULL,NULL);
INSERT INTO calls VALUES(58821987226517504,X'01a1f4924b3d730abd7f5430e9becbd2',5,2,3,3,4491,4480,0,NULL,NULL,1317,990,NULL,NULL,5808,20902500,20902500,'req_c3d47bfb6d71ac81af03ae046919c0c1',18745,18745,NULL,4,'[4491,0,4480,1317,990,5808]',NULL,NULL,NULL,NULL);
CREATE TABLE open_calls (
            id TEXT NOT NULL PRIMARY KEY,
            record TEXT NOT NULL
        ) STRICT, WITHOUT ROWID;
CREATE TABLE journal_progress (
            file TEXT NOT NULL PRIMARY KEY,
            offset INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID;
CREATE TABLE charged (
            key BLOB NOT NULL PRIMARY KEY,
            call_id BLOB NOT NULL
        ) STRICT, WITHOUT ROWID;
INSERT INTO charged VALUES(X'737e0d0a33520b786ff2c86232ac074d',X'01a1f4911825717580424df098aa78b7');
INSERT INTO charged VALUES(X'742297463d42bfe0347d7ddf523f5877',X'01a1f4924b3d730abd7f5430e9becbd2');
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
CREATE TABLE ledger_state (
            name TEXT NOT NULL PRIMARY KEY,
            value ANY NOT NULL
        ) STRICT, WITHOUT ROWID;
CREATE TABLE rollup_live (
        slot INTEGER NOT NULL,
        shard INTEGER NOT NULL,
        user INTEGER NOT NULL,
        kind INTEGER NOT NULL,
        sums BLOB NOT NULL,
        PRIMARY KEY (slot, shard, user, kind)
    ) STRICT, WITHOUT ROWID;
CREATE TABLE rollup_pack (
        key INTEGER PRIMARY KEY,
        pack BLOB NOT NULL
    ) STRICT;
INSERT INTO rollup_pack VALUES(140737489352598,X'01b9bbb0700e0001c2485cce22fa0942a0b1ee038d2d');
INSERT INTO rollup_pack VALUES(140737489352599,X'013ca55b750f0002c2487de624f9013aeca1668a1dbd09');
INSERT INTO rollup_pack VALUES(140737489352600,X'01684b3b6411000342587dd232a203b4f795018a019a3dc00a');
INSERT INTO rollup_pack VALUES(140737489352608,X'01749b346c100004c2485ceb248528cc23e4c3a32ab79d04120005c6485c8b238023a50ade07e4e4fb09b99201');
INSERT INTO rollup_pack VALUES(703687442773910,X'01282ad8de0e0101c2485cce22fa0942a0b1ee038d2d');
INSERT INTO rollup_pack VALUES(703687442773911,X'017f6efdf20f0102c2487de624f9013aeca1668a1dbd09');
INSERT INTO rollup_pack VALUES(703687442773912,X'0130cbd9b311010342587dd232a203b4f795018a019a3dc00a');
INSERT INTO rollup_pack VALUES(985162419484576,X'01aafae83b100204c2485ceb248528cc23e4c3a32ab79d04120205c6485c8b238023a50ade07e4e4fb09b99201');
INSERT INTO rollup_pack VALUES(18155135997858088,X'01bac4d7000e0001c2485cce22fa0942a0b1ee038d2d0f0002c2487de624f9013aeca1668a1dbd0911000342587dd232a203b4f795018a019a3dc00a100004c2485ceb248528cc23e4c3a32ab79d04120005c6485c8b238023a50ade07e4e4fb09b99201');
INSERT INTO rollup_pack VALUES(18718085951279400,X'01249f9bde0e0101c2485cce22fa0942a0b1ee038d2d0f0102c2487de624f9013aeca1668a1dbd0911010342587dd232a203b4f795018a019a3dc00a');
INSERT INTO rollup_pack VALUES(18999560927990056,X'01aafae83b100204c2485ceb248528cc23e4c3a32ab79d04120205c6485c8b238023a50ade07e4e4fb09b99201');
INSERT INTO rollup_pack VALUES(36169534507340072,X'01afb319050e0001c2485cce22fa0942a0b1ee038d2d0f0002c2487de624f9013aeca1668a1dbd0911000342587dd232a203b4f795018a019a3dc00a170004c7481802f6478023aa32aa2bc8a89f34f0af05a410ea03');
INSERT INTO rollup_pack VALUES(36732484460761384,X'01249f9bde0e0101c2485cce22fa0942a0b1ee038d2d0f0102c2487de624f9013aeca1668a1dbd0911010342587dd232a203b4f795018a019a3dc00a');
INSERT INTO rollup_pack VALUES(37013959437472040,X'015b93c492170204c7481802f6478023aa32aa2bc8a89f34f0af05a410ea03');
INSERT INTO rollup_pack VALUES(54183933016803877,X'01afb319050e0001c2485cce22fa0942a0b1ee038d2d0f0002c2487de624f9013aeca1668a1dbd0911000342587dd232a203b4f795018a019a3dc00a170004c7481802f6478023aa32aa2bc8a89f34f0af05a410ea03');
INSERT INTO rollup_pack VALUES(54746882970225189,X'01249f9bde0e0101c2485cce22fa0942a0b1ee038d2d0f0102c2487de624f9013aeca1668a1dbd0911010342587dd232a203b4f795018a019a3dc00a');
INSERT INTO rollup_pack VALUES(55028357946935845,X'015b93c492170204c7481802f6478023aa32aa2bc8a89f34f0af05a410ea03');
INSERT INTO rollup_pack VALUES(72198331527280534,X'01b9bbb0700e0001c2485cce22fa0942a0b1ee038d2d');
INSERT INTO rollup_pack VALUES(72198331527280535,X'013ca55b750f0002c2487de624f9013aeca1668a1dbd09');
INSERT INTO rollup_pack VALUES(72198331527280536,X'01684b3b6411000342587dd232a203b4f795018a019a3dc00a');
INSERT INTO rollup_pack VALUES(72198331527280544,X'0106b5a202170004c7481802f6478023aa32aa2bc8a89f34f0af05a410ea03');
CREATE TABLE repricing (
        id INTEGER NOT NULL PRIMARY KEY,
        at INTEGER NOT NULL,
        prices TEXT NOT NULL,
        prices_sha256 TEXT NOT NULL,
        question TEXT NOT NULL,
        version TEXT NOT NULL,
        state TEXT NOT NULL,
        rows_seen INTEGER NOT NULL,
        rows_changed INTEGER NOT NULL,
        rows_put_back INTEGER NOT NULL,
        cost_before INTEGER NOT NULL,
        cost_after INTEGER NOT NULL
    ) STRICT;
CREATE TABLE repriced_row (
        repricing INTEGER NOT NULL,
        call_id TEXT NOT NULL,
        old_cost_usd INTEGER,
        old_computed_cost_usd INTEGER,
        old_cost_source TEXT NOT NULL,
        old_price_id TEXT,
        new_cost_usd INTEGER,
        new_computed_cost_usd INTEGER,
        new_cost_source TEXT NOT NULL,
        new_price_id TEXT,
        put_back INTEGER NOT NULL,
        PRIMARY KEY (repricing, call_id)
    ) STRICT, WITHOUT ROWID;
CREATE INDEX kinds_by_class ON kinds (class_digest);
CREATE UNIQUE INDEX calls_by_id ON calls (id);
CREATE INDEX calls_by_kind ON calls (kind);
CREATE INDEX calls_by_user ON calls (user, kind) WHERE user IS NOT NULL;
CREATE INDEX calls_by_session ON calls (session) WHERE session IS NOT NULL;
CREATE INDEX calls_by_charge ON calls (charged_by) WHERE charged_by IS NOT NULL;
CREATE VIEW token_usage AS SELECT lower(substr(hex(calls.id), 1, 8) || '-' || substr(hex(calls.id), 9, 4) || '-' || substr(hex(calls.id), 13, 4) || '-' || substr(hex(calls.id), 17, 4) || '-' || substr(hex(calls.id), 21, 12)) AS id,
            calls.key >> 15 AS created_at,
            coalesce(kinds.upstream, json_extract(calls.own, '$.upstream')) AS upstream,
            coalesce(kinds.provider, json_extract(calls.own, '$.provider')) AS provider,
            coalesce(kinds.endpoint, json_extract(calls.own, '$.endpoint')) AS endpoint,
            coalesce(kinds.method, json_extract(calls.own, '$.method')) AS method,
            CASE typeof(calls.path) WHEN 'integer' THEN (SELECT name FROM paths WHERE id = calls.path) ELSE calls.path END AS path,
            coalesce(kinds.model_requested, json_extract(calls.own, '$.model_requested')) AS model_requested,
            coalesce(kinds.model, json_extract(calls.own, '$.model')) AS model,
            users.name AS user,
            sessions.name AS session,
            coalesce(kinds.operation, json_extract(calls.own, '$.operation')) AS operation,
            coalesce(kinds.attempt, json_extract(calls.own, '$.attempt')) AS attempt,
            coalesce(kinds.metadata, json_extract(calls.own, '$.metadata')) AS metadata,
            coalesce(kinds.key_id, json_extract(calls.own, '$.key_id')) AS key_id,
            calls.input_tokens AS input_tokens,
            calls.cache_read_tokens AS cache_read_tokens,
            calls.cache_write_tokens AS cache_write_tokens,
            calls.audio_input_tokens AS audio_input_tokens,
            calls.image_input_tokens AS image_input_tokens,
            calls.output_tokens AS output_tokens,
            calls.reasoning_tokens AS reasoning_tokens,
            calls.audio_output_tokens AS audio_output_tokens,
            calls.image_output_tokens AS image_output_tokens,
            calls.total_tokens AS total_tokens,
            coalesce(kinds.usage_source, json_extract(calls.own, '$.usage_source')) AS usage_source,
            calls.cost_usd AS cost_usd,
            coalesce(kinds.cost_source, json_extract(calls.own, '$.cost_source')) AS cost_source,
            calls.computed_cost_usd AS computed_cost_usd,
            coalesce(kinds.price_id, json_extract(calls.own, '$.price_id')) AS price_id,
            coalesce(kinds.status, json_extract(calls.own, '$.status')) AS status,
            coalesce(kinds.streaming, json_extract(calls.own, '$.streaming')) AS streaming,
            coalesce(kinds.finish_reason, json_extract(calls.own, '$.finish_reason')) AS finish_reason,
            coalesce(kinds.outcome, json_extract(calls.own, '$.outcome')) AS outcome,
            coalesce(kinds.error, json_extract(calls.own, '$.error')) AS error,
            coalesce(kinds.retry, json_extract(calls.own, '$.retry')) AS retry,
            calls.upstream_request_id AS upstream_request_id,
            coalesce(kinds.service_tier, json_extract(calls.own, '$.service_tier')) AS service_tier,
            calls.duration_ms AS duration_ms,
            calls.time_to_first_byte_ms AS time_to_first_byte_ms,
            calls.time_to_first_token_ms AS time_to_first_token_ms,
            CASE WHEN calls.usage_shape IS NULL THEN calls.usage ELSE printf((SELECT name FROM shapes WHERE id = calls.usage_shape), json_extract(calls.usage, '$[0]'), json_extract(calls.usage, '$[1]'), json_extract(calls.usage, '$[2]'), json_extract(calls.usage, '$[3]'), json_extract(calls.usage, '$[4]'), json_extract(calls.usage, '$[5]'), json_extract(calls.usage, '$[6]'), json_extract(calls.usage, '$[7]'), json_extract(calls.usage, '$[8]'), json_extract(calls.usage, '$[9]'), json_extract(calls.usage, '$[10]'), json_extract(calls.usage, '$[11]'), json_extract(calls.usage, '$[12]'), json_extract(calls.usage, '$[13]'), json_extract(calls.usage, '$[14]'), json_extract(calls.usage, '$[15]'), json_extract(calls.usage, '$[16]'), json_extract(calls.usage, '$[17]'), json_extract(calls.usage, '$[18]'), json_extract(calls.usage, '$[19]'), json_extract(calls.usage, '$[20]'), json_extract(calls.usage, '$[21]'), json_extract(calls.usage, '$[22]'), json_extract(calls.usage, '$[23]'), json_extract(calls.usage, '$[24]'), json_extract(calls.usage, '$[25]'), json_extract(calls.usage, '$[26]'), json_extract(calls.usage, '$[27]'), json_extract(calls.usage, '$[28]'), json_extract(calls.usage, '$[29]'), json_extract(calls.usage, '$[30]'), json_extract(calls.usage, '$[31]')) END AS usage_json,
            CASE WHEN calls.estimate_shape IS NULL THEN calls.estimate ELSE printf((SELECT name FROM shapes WHERE id = calls.estimate_shape), json_extract(calls.estimate, '$[0]'), json_extract(calls.estimate, '$[1]'), json_extract(calls.estimate, '$[2]'), json_extract(calls.estimate, '$[3]'), json_extract(calls.estimate, '$[4]'), json_extract(calls.estimate, '$[5]'), json_extract(calls.estimate, '$[6]'), json_extract(calls.estimate, '$[7]'), json_extract(calls.estimate, '$[8]'), json_extract(calls.estimate, '$[9]'), json_extract(calls.estimate, '$[10]'), json_extract(calls.estimate, '$[11]'), json_extract(calls.estimate, '$[12]'), json_extract(calls.estimate, '$[13]'), json_extract(calls.estimate, '$[14]'), json_extract(calls.estimate, '$[15]'), json_extract(calls.estimate, '$[16]'), json_extract(calls.estimate, '$[17]'), json_extract(calls.estimate, '$[18]'), json_extract(calls.estimate, '$[19]'), json_extract(calls.estimate, '$[20]'), json_extract(calls.estimate, '$[21]'), json_extract(calls.estimate, '$[22]'), json_extract(calls.estimate, '$[23]'), json_extract(calls.estimate, '$[24]'), json_extract(calls.estimate, '$[25]'), json_extract(calls.estimate, '$[26]'), json_extract(calls.estimate, '$[27]'), json_extract(calls.estimate, '$[28]'), json_extract(calls.estimate, '$[29]'), json_extract(calls.estimate, '$[30]'), json_extract(calls.estimate, '$[31]')) END AS estimate,
            coalesce(kinds.stream_usage, json_extract(calls.own, '$.stream_usage')) AS stream_usage,
            CASE WHEN calls.charged_by IS NULL THEN NULL ELSE lower(substr(hex(calls.charged_by), 1, 8) || '-' || substr(hex(calls.charged_by), 9, 4) || '-' || substr(hex(calls.charged_by), 13, 4) || '-' || substr(hex(calls.charged_by), 17, 4) || '-' || substr(hex(calls.charged_by), 21, 12)) END AS charged_by FROM calls LEFT JOIN kinds ON kinds.id = calls.kind LEFT JOIN users ON users.id = calls.user LEFT JOIN sessions ON sessions.id = calls.session;
CREATE TRIGGER token_usage_delete INSTEAD OF DELETE ON token_usage BEGIN
            DELETE FROM calls WHERE key >= OLD.created_at << 15 AND key < (OLD.created_at + 1) << 15
            AND lower(substr(hex(calls.id), 1, 8) || '-' || substr(hex(calls.id), 9, 4) || '-' || substr(hex(calls.id), 13, 4) || '-' || substr(hex(calls.id), 17, 4) || '-' || substr(hex(calls.id), 21, 12)) = OLD.id;
        END;
CREATE TRIGGER token_usage_update INSTEAD OF UPDATE ON token_usage BEGIN
            SELECT RAISE(ABORT, 'only user, session, tokens, money and times can be changed')
            WHERE OLD.id IS NOT NEW.id OR OLD.created_at IS NOT NEW.created_at OR OLD.upstream IS NOT NEW.upstream OR OLD.provider IS NOT NEW.provider OR OLD.endpoint IS NOT NEW.endpoint OR OLD.method IS NOT NEW.method OR OLD.path IS NOT NEW.path OR OLD.model_requested IS NOT NEW.model_requested OR OLD.model IS NOT NEW.model OR OLD.operation IS NOT NEW.operation OR OLD.attempt IS NOT NEW.attempt OR OLD.metadata IS NOT NEW.metadata OR OLD.key_id IS NOT NEW.key_id OR OLD.usage_source IS NOT NEW.usage_source OR OLD.cost_source IS NOT NEW.cost_source OR OLD.price_id IS NOT NEW.price_id OR OLD.status IS NOT NEW.status OR OLD.streaming IS NOT NEW.streaming OR OLD.finish_reason IS NOT NEW.finish_reason OR OLD.outcome IS NOT NEW.outcome OR OLD.error IS NOT NEW.error OR OLD.retry IS NOT NEW.retry OR OLD.service_tier IS NOT NEW.service_tier OR OLD.usage_json IS NOT NEW.usage_json OR OLD.estimate IS NOT NEW.estimate OR OLD.stream_usage IS NOT NEW.stream_usage OR OLD.charged_by IS NOT NEW.charged_by;
            INSERT OR IGNORE INTO users (name) SELECT NEW.user WHERE NEW.user IS NOT NULL;
            INSERT OR IGNORE INTO sessions (name) SELECT NEW.session WHERE NEW.session IS NOT NULL;
            UPDATE calls SET input_tokens = NEW.input_tokens, cache_read_tokens = NEW.cache_read_tokens, cache_write_tokens = NEW.cache_write_tokens, audio_input_tokens = NEW.audio_input_tokens, image_input_tokens = NEW.image_input_tokens, output_tokens = NEW.output_tokens, reasoning_tokens = NEW.reasoning_tokens, audio_output_tokens = NEW.audio_output_tokens, image_output_tokens = NEW.image_output_tokens, total_tokens = NEW.total_tokens, cost_usd = NEW.cost_usd, computed_cost_usd = NEW.computed_cost_usd, upstream_request_id = NEW.upstream_request_id, duration_ms = NEW.duration_ms, time_to_first_byte_ms = NEW.time_to_first_byte_ms, time_to_first_token_ms = NEW.time_to_first_token_ms,
                user = (SELECT id FROM users WHERE name = NEW.user),
                session = (SELECT id FROM sessions WHERE name = NEW.session)
            WHERE key >= OLD.created_at << 15 AND key < (OLD.created_at + 1) << 15
            AND lower(substr(hex(calls.id), 1, 8) || '-' || substr(hex(calls.id), 9, 4) || '-' || substr(hex(calls.id), 13, 4) || '-' || substr(hex(calls.id), 17, 4) || '-' || substr(hex(calls.id), 21, 12)) = OLD.id;
        END;
INSERT INTO journal_progress VALUES('2026-11-21.jsonl',77);
COMMIT;
