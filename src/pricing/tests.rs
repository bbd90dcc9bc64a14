//! The rules of pricing, seen from outside the room: a small table and what calls cost by it.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;

const TABLE: &str = r#"
version = 1

[providers.azure]
same_as = ["openai", "anthropic"]
multiplier = 0.9
[providers.openrouter]
vendor_prefix = true
drop_suffix = true
free_suffix = ":free"
[providers.xai]
also = ["x-ai"]
[providers.bedrock]
drop_prefix = ["us.", "global.", "anthropic."]
[providers.ollama]
free = true
[providers.gateway]
trust_reported_cost = false

[prices.any]
"gpt-oss-20b" = { input = 0.05, output = 0.20 }

[prices.openai]
"gpt-4o" = { input = 2.50, cached_input = 1.25, output = 10.00, audio_input = 40, audio_output = 80 }
"chatgpt-4o-latest" = "gpt-4o"
"gpt-4o-2024-05-13" = { input = 5.00, output = 15.00 }
"gpt-4o-mini*" = { input = 0.15, output = 0.60 }
"gpt-4o-mini-audio*" = { input = 0.15, output = 0.60, audio_input = 10 }
"text-embedding-3-small" = { input = 0.02 }
"whisper-1" = { per_audio_hour = 0.36 }
"whisper-min" = { per_audio_hour = 0.36, min_audio_seconds = 10 }
"dall-e-3" = { per_image_by = { "standard/1024x1024" = 0.04 } }
"image-mix" = { input = 5, per_image = 0.04 }
"search" = { per_1k_requests = 5 }
"deep" = { input = 2, output = 8, reasoning = 3, per_1k_requests = 12, per_1k_web_searches = 5 }
"all" = { input = 1, cached_input = 0.1, output = 2, reasoning = 3, audio_input = 4, image_output = 5 }
"audio-hours" = { input = 0.1, output = 0.4, per_audio_hour = 0.36 }

[prices.openai."gpt-5.5"]
input = 5.00
cached_input = 0.50
output = 30.00
above.272000 = { input = 10.00, cached_input = 1.00, output = 45.00 }
tier.flex = { input = 2.50, output = 15.00, above.272000 = { input = 5.00, output = 22.50 } }
tier.batch = { input = 2.50, output = 15.00 }

[prices.openai.o3]
input = 10.00
output = 40.00
since.2025-06-10 = { input = 2.00, output = 8.00, tier.flex = { input = 1, output = 4 } }
since."2026-01-01T16:00:00Z" = { input = 1.00, output = 4.00 }

[prices.anthropic."claude-sonnet-4-5*"]
input = 3.00
cached_input = 0.30
cache_write = 3.75
cache_write_1h = 6.00
output = 15.00
per_1k_web_searches = 10.00
above.200000 = { input = 6.00, output = 22.50 }

[prices.anthropic]
"claude-opus-5" = { input = 5, output = 25 }

[prices.xai]
"grok-4" = { input = 3, output = 15 }

[prices.bedrock]
"claude-opus-5" = { input = 5.5, output = 27.5 }
"global.anthropic.claude-opus-5" = { input = 5, output = 25 }

[prices.deepseek."deepseek-flash"]
input = 0.15
output = 0.60
daily."01:00-04:00" = { input = 0.30, output = 1.20 }
daily."23:00-00:30" = { input = 0.60, output = 2.40 }
"#;

static BOOK: LazyLock<PriceBook> =
    LazyLock::new(|| PriceBook::parse(TABLE).unwrap_or_else(|errors| panic!("{errors}")));

fn tokens(input: u64, output: u64) -> Usage {
    Usage {
        input: Some(input),
        output: Some(output),
        total: Some(input + output),
        ..Usage::default()
    }
}

fn million() -> Usage {
    tokens(1_000_000, 1_000_000)
}

fn call<'a>(provider: &'a str, model: &'a str, usage: &'a Usage) -> Billable<'a> {
    Billable {
        provider,
        model: Some(model),
        at: "2026-11-21T12:00:00Z".parse().unwrap(),
        service_tier: None,
        batch: false,
        usage,
        several_turns: false,
        side: &[],
        reported: None,
    }
}

/// Dollars, source and id of a call, in one comparable line.
fn line(cost: &Cost) -> String {
    let usd = cost.usd.map_or_else(|| "-".to_owned(), |usd| usd.to_string());
    format!("{usd} {} {}", cost.source.as_str(), cost.price_id.as_deref().unwrap_or("-"))
}

#[track_caller]
fn assert_price(call: &Billable<'_>, expected: &str) {
    assert_price_by(&BOOK, call, expected);
}

#[track_caller]
fn assert_price_by(book: &PriceBook, call: &Billable<'_>, expected: &str) {
    assert_eq!(line(&book.price(call)), expected, "{call:?}");
}

#[test]
fn names_are_looked_up_in_the_documented_order() {
    let usage = million();
    for (provider, model, expected) in [
        ("openai", "gpt-4o", "12.5 priced openai/gpt-4o"),
        ("OpenAI", "GPT-4o", "12.5 priced openai/gpt-4o"),
        ("openai", "chatgpt-4o-latest", "12.5 priced openai/gpt-4o"),
        ("openai", "gpt-4o-2024-05-13", "20 priced openai/gpt-4o-2024-05-13"),
        ("openai", "gpt-4o-2024-08-06", "12.5 priced openai/gpt-4o"),
        ("openai", "gpt-4o-20240806", "12.5 priced openai/gpt-4o"),
        ("openai", "gpt-4o@20240806", "12.5 priced openai/gpt-4o"),
        ("openai", "models/gpt-4o", "12.5 priced openai/gpt-4o"),
        ("openai", "gpt-4o-mini-2024-07-18", "0.75 priced openai/gpt-4o-mini*"),
        ("openai", "gpt-4o-mini-audio-preview", "0.75 priced openai/gpt-4o-mini-audio*"),
        ("openai", "gpt-4o:free", "18 default default"),
        ("azure", "gpt-4o", "11.25 priced openai/gpt-4o"),
        ("azure", "claude-opus-5", "27 priced anthropic/claude-opus-5"),
        ("openrouter", "openai/gpt-4o", "12.5 priced openai/gpt-4o"),
        ("openrouter", "openai/gpt-4o:nitro", "12.5 priced openai/gpt-4o"),
        ("openrouter", "~x-ai/grok-4", "18 priced xai/grok-4"),
        ("openrouter", "openai/gpt-4o:free", "0 free free"),
        ("openrouter", "nobody/nothing", "18 default default"),
        ("x-ai", "grok-4", "18 priced xai/grok-4"),
        ("bedrock", "us.anthropic.claude-opus-5-20260801-v1:0", "33 priced bedrock/claude-opus-5"),
        (
            "bedrock",
            "global.anthropic.claude-opus-5",
            "30 priced bedrock/global.anthropic.claude-opus-5",
        ),
        (
            "bedrock",
            "global.anthropic.claude-opus-5-v1:0",
            "30 priced bedrock/global.anthropic.claude-opus-5",
        ),
        ("ollama", "llama3:8b", "0 free free"),
        ("house", "gpt-oss-20b", "0.25 priced any/gpt-oss-20b"),
        ("house", "unheard-of", "18 default default"),
    ] {
        assert_price(&call(provider, model, &usage), expected);
    }
}

#[test]
fn an_endless_name_is_no_models() {
    let usage = million();
    let name = "us.".repeat(1_000_000);
    assert_price(&call("bedrock", &name, &usage), "18 default default");
}

#[test]
fn the_default_price_can_be_changed_and_switched_off() {
    let usage = Usage { reasoning: Some(400_000), ..million() };
    for (text, expected) in [
        ("", "12.4 default default"),
        ("[default]\ninput = 1", "10.4 default default"),
        ("[default]\nenabled = true", "12.4 default default"),
        ("[default]\nenabled = false\ninput = 1", "- none -"),
        ("default = false", "- none -"),
    ] {
        let book = PriceBook::parse(text).unwrap();
        assert_eq!(line(&book.price(&call("house", "x", &usage))), expected, "{text}");
        let nameless = Billable { model: None, ..call("house", "x", &usage) };
        assert_eq!(line(&book.price(&nameless)), expected, "{text}");
    }
}

#[test]
fn each_token_is_charged_once_at_the_price_of_its_class() {
    let usage = Usage {
        cache_read: Some(100_000),
        cache_write: Some(300_000),
        cache_write_1h: Some(100_000),
        ..tokens(1_000_000, 0)
    };
    let cost = PriceBook::parse(&TABLE.replace("above.200000", "above.9000000")).unwrap();
    let cost = cost.price(&call("anthropic", "claude-sonnet-4-5", &usage));
    let parts: Vec<_> =
        cost.parts.iter().map(|p| (p.class, p.quantity, p.usd.to_string())).collect();
    assert_eq!(
        parts,
        [
            ("cached_input", 100_000, "0.03".to_owned()),
            ("cache_write_1h", 100_000, "0.6".to_owned()),
            ("cache_write", 200_000, "0.75".to_owned()),
            ("input", 600_000, "1.8".to_owned()),
        ]
    );
    let heard = Usage {
        cache_read: Some(400_000),
        audio_input: Some(500_000),
        cache_read_audio: Some(200_000),
        audio_output: Some(1_000_000),
        ..million()
    };
    // 0.4 M cached at 1.25, 0.3 M audio at 40, 0.3 M text at 2.50; all output is audio at 80.
    assert_price(&call("openai", "gpt-4o", &heard), "93.25 priced openai/gpt-4o");
}

#[test]
fn reasoning_costs_the_output_price_unless_it_has_its_own() {
    let usage = Usage { reasoning: Some(1_500_000), ..million() };
    assert_price(&call("openai", "gpt-4o", &usage), "12.5 priced openai/gpt-4o");
    // The reasoning is clamped to the output: 2 + 3 + 0.012 a request.
    assert_price(&call("openai", "deep", &usage), "5.012 priced openai/deep");
}

#[test]
fn parts_that_exceed_the_prompt_are_not_charged_beyond_it() {
    let usage = Usage { cache_read: Some(900), cache_write: Some(900), ..tokens(1_000, 0) };
    // 900 × 0.30 + 100 × 3.75
    assert_price(
        &call("anthropic", "claude-sonnet-4-5", &usage),
        "0.000645 priced anthropic/claude-sonnet-4-5*",
    );
}

#[test]
fn long_requests_cost_more_as_a_whole() {
    let (at, over) = (tokens(272_000, 0), tokens(272_001, 0));
    assert_price(&call("openai", "gpt-5.5", &at), "1.36 priced openai/gpt-5.5");
    assert_price(&call("openai", "gpt-5.5", &over), "2.72001 priced openai/gpt-5.5>272000");
    let compacted = tokens(300_000, 0);
    let compacted =
        Billable { several_turns: true, ..call("anthropic", "claude-sonnet-4-5", &compacted) };
    assert!(!BOOK.price(&compacted).price_id.unwrap().contains('>'));
    let searched = Usage { web_searches: Some(3), ..tokens(300_000, 0) };
    assert_price(
        &call("anthropic", "claude-sonnet-4-5", &searched),
        "0.93 priced anthropic/claude-sonnet-4-5*",
    );
}

#[test]
fn the_tier_that_served_decides() {
    let usage = tokens(1_000, 1_000);
    for (tier, expected) in [
        ("flex", "0.0175 priced openai/gpt-5.5+flex"),
        ("FLEX", "0.0175 priced openai/gpt-5.5+flex"),
        ("ON_DEMAND_FLEX", "0.0175 priced openai/gpt-5.5+flex"),
        ("default", "0.035 priced openai/gpt-5.5"),
        ("standard", "0.035 priced openai/gpt-5.5"),
        ("scale", "0.035 priced openai/gpt-5.5"),
    ] {
        let call = Billable { service_tier: Some(tier), ..call("openai", "gpt-5.5", &usage) };
        assert_price(&call, expected);
    }
    let batch = Billable { batch: true, ..call("openai", "gpt-5.5", &usage) };
    assert_price(&batch, "0.0175 priced openai/gpt-5.5+batch");
    let long = tokens(300_000, 0);
    let flex = Billable { service_tier: Some("flex"), ..call("openai", "gpt-5.5", &long) };
    assert_price(&flex, "1.5 priced openai/gpt-5.5>272000+flex");
    let batch = Billable { batch: true, ..call("openai", "gpt-5.5", &long) };
    assert_price(&batch, "0.75 priced openai/gpt-5.5>272000+batch");
}

#[test]
fn a_call_is_priced_by_the_price_of_its_time() {
    let usage = million();
    for (provider, model, at, expected) in [
        ("openai", "o3", "2025-06-09T23:59:59Z", "50 priced openai/o3"),
        ("openai", "o3", "2025-06-10T00:00:00Z", "10 priced openai/o3@2025-06-10"),
        ("openai", "o3", "2026-01-01T15:59:59Z", "10 priced openai/o3@2025-06-10"),
        ("openai", "o3", "2026-01-01T16:00:00Z", "5 priced openai/o3@2026-01-01T16:00:00Z"),
        (
            "deepseek",
            "deepseek-flash",
            "2026-11-21T00:59:59Z",
            "0.75 priced deepseek/deepseek-flash",
        ),
        (
            "deepseek",
            "deepseek-flash",
            "2026-11-21T01:00:00Z",
            "1.5 priced deepseek/deepseek-flash~01:00-04:00",
        ),
        (
            "deepseek",
            "deepseek-flash",
            "2026-11-21T04:00:00Z",
            "0.75 priced deepseek/deepseek-flash",
        ),
        (
            "deepseek",
            "deepseek-flash",
            "2026-11-21T23:30:00Z",
            "3 priced deepseek/deepseek-flash~23:00-00:30",
        ),
        (
            "deepseek",
            "deepseek-flash",
            "2026-11-21T00:29:59Z",
            "3 priced deepseek/deepseek-flash~23:00-00:30",
        ),
    ] {
        let call = Billable { at: at.parse().unwrap(), ..call(provider, model, &usage) };
        assert_price(&call, expected);
    }
}

#[test]
fn calls_searches_and_hours_are_charged_beside_tokens() {
    let usage = Usage { web_searches: Some(2), ..tokens(1_000, 0) };
    assert_price(&call("openai", "deep", &usage), "0.024 priced openai/deep");
    assert_price(&call("openai", "search", &usage), "0.005 priced openai/search");
    let heard = Usage { audio_input_ms: Some(30_000), ..Usage::default() };
    assert_price(&call("openai", "whisper-1", &heard), "0.003 priced openai/whisper-1");
    let short = Usage { audio_input_ms: Some(1_000), ..Usage::default() };
    assert_price(&call("openai", "whisper-min", &short), "0.001 priced openai/whisper-min");
    // Audio that is charged by time is not charged by token as well.
    let both = Usage { audio_input: Some(900), audio_input_ms: Some(10_000), ..tokens(1_000, 0) };
    assert_price(&call("openai", "audio-hours", &both), "0.00101 priced openai/audio-hours");
}

#[test]
fn what_cannot_be_priced_is_never_free() {
    let usage = tokens(10, 10);
    assert_price(&call("openai", "dall-e-3", &usage), "- none openai/dall-e-3");
    assert_price(&call("openai", "image-mix", &usage), "- none openai/image-mix");
    assert_price(&call("openai", "whisper-1", &usage), "- none openai/whisper-1");
    let unknown = Usage::default();
    assert_price(&call("openai", "gpt-4o", &unknown), "- none openai/gpt-4o");
    assert_price(&call("openai", "search", &unknown), "- none openai/search");
    assert_price(&call("house", "unheard-of", &unknown), "- none -");
    assert_price(&call("ollama", "llama3", &unknown), "0 free free");
    let searched = Usage { web_searches: Some(0), ..Usage::default() };
    assert_price(&call("openai", "deep", &searched), "- none openai/deep");
    let nothing = tokens(0, 0);
    assert_price(&call("openai", "gpt-4o", &nothing), "0 priced openai/gpt-4o");
}

#[test]
fn totals_stand_in_for_what_is_missing() {
    let only = Usage { total: Some(1_000), ..Usage::default() };
    assert_price(&call("openai", "gpt-4o", &only), "0.0025 priced openai/gpt-4o");
    let input = Usage { total: Some(1_000), output: Some(400), ..Usage::default() };
    assert_price(&call("openai", "gpt-4o", &input), "0.0055 priced openai/gpt-4o");
    let output = Usage { total: Some(1_000), input: Some(600), ..Usage::default() };
    assert_price(&call("openai", "gpt-4o", &output), "0.0055 priced openai/gpt-4o");
    let part = Usage { cache_read: Some(1_000), ..Usage::default() };
    assert_price(&call("openai", "gpt-4o", &part), "0.00125 priced openai/gpt-4o");
}

#[test]
fn the_providers_own_figure_wins_and_the_computed_one_is_kept() {
    let usage = million();
    let reported: Usd = "0.123".parse().unwrap();
    let with =
        |provider, model| Billable { reported: Some(reported), ..call(provider, model, &usage) };
    let cost = BOOK.price(&with("openai", "gpt-4o"));
    assert_eq!(line(&cost), "0.123 provider openai/gpt-4o");
    assert_eq!(cost.computed.unwrap().to_string(), "12.5");
    assert_price(&with("ollama", "llama3"), "0.123 provider free");
    assert_price(&with("gateway", "gpt-oss-20b"), "0.25 priced any/gpt-oss-20b");
    let unknown = Usage::default();
    let cost = BOOK.price(&Billable { usage: &unknown, ..with("openai", "gpt-4o") });
    assert_eq!((cost.usd, cost.computed), (Some(reported), None));
}

#[test]
fn side_passes_are_added_at_their_own_models_price() {
    let usage = tokens(1_000, 0);
    let side = [("claude-opus-5-20260601".to_owned(), tokens(1_000, 1_000))];
    let advised = Billable { side: &side, ..call("anthropic", "claude-sonnet-4-5", &usage) };
    assert_price(&advised, "0.033 priced anthropic/claude-sonnet-4-5*,anthropic/claude-opus-5");
    let side = [("unheard-of".to_owned(), tokens(1_000, 1_000))];
    let advised = Billable { side: &side, ..advised };
    assert_price(&advised, "0.021 default anthropic/claude-sonnet-4-5*,default");
    let side = [("claude-opus-5".to_owned(), Usage::default())];
    let advised = Billable { side: &side, ..advised };
    assert_price(&advised, "- none anthropic/claude-sonnet-4-5*,anthropic/claude-opus-5");
}

#[test]
fn prices_are_read_as_decimals_and_keep_every_digit() {
    let book = PriceBook::parse(
        "[prices.a]\nm = { input = 0.1, output = 0.2 }\nn = { input = 1_000.000_001, output = 3e-7 }",
    )
    .unwrap();
    let usage = tokens(3, 0);
    assert_eq!(line(&book.price(&call("a", "m", &usage))), "0.0000003 priced a/m");
    assert_eq!(line(&book.price(&call("a", "n", &tokens(1, 1)))), "0.0010000000013 priced a/n");
}

#[test]
fn the_shipped_table_knows_the_known_providers() {
    let book = PriceBook::builtin();
    assert!(book.len() > 3_000, "{}", book.len());
    let usage = million();
    for (provider, model, expected) in [
        ("openai", "gpt-4o-2024-08-06", "12.5 priced openai/gpt-4o"),
        ("openai", "gpt-4o-mini-2024-07-18", "0.75 priced openai/gpt-4o-mini"),
        ("azure", "gpt-4o-search-preview", "12.5 priced openai/gpt-4o-search-preview"),
        ("openrouter", "openai/gpt-4o-mini", "0.75 priced openrouter/openai/gpt-4o-mini"),
        ("openrouter", "meta-llama/llama-3.3-70b-instruct:free", "0 free free"),
        ("gemini", "models/gemini-2.5-flash", "2.8 priced gemini/gemini-2.5-flash"),
        ("vertex", "google/gemini-2.5-flash", "2.8 priced gemini/gemini-2.5-flash"),
        ("vertex", "claude-opus-4@20250514", "90 priced vertex/claude-opus-4"),
        ("mistral", "mistral-small-latest", "0.75 priced mistral/mistral-small-latest@2026-03-16"),
        ("xai", "grok-4-0709", "18 priced xai/grok-4-0709"),
        ("ollama", "llama3.2", "0 free free"),
        ("lmstudio", "qwen", "0 free free"),
        ("llamacpp", "qwen", "0 free free"),
        ("vllm", "Qwen/Qwen3-32B", "0 free free"),
    ] {
        assert_eq!(
            line(&book.price(&call(provider, model, &usage))),
            expected,
            "{provider} {model}"
        );
    }
    for provider in [
        "openai",
        "azure",
        "openrouter",
        "anthropic",
        "gemini",
        "vertex",
        "bedrock",
        "mistral",
        "groq",
        "together",
        "cerebras",
        "deepseek",
        "xai",
        "fireworks",
        "perplexity",
        "cohere",
        "zai",
        "moonshot",
        "huggingface",
    ] {
        assert!(book.names(provider).len() >= 10, "{provider} has {}", book.names(provider).len());
    }
}

#[test]
fn every_shipped_entry_has_a_price_or_says_why_not() {
    let book = PriceBook::builtin();
    let usage = Usage { audio_input_ms: Some(1_000), ..tokens(1_000, 1_000) };
    let mut seen = 0;
    for provider in book.provider_names() {
        for name in book.names(provider) {
            let cost = book.price(&call(provider, &name.replace('*', "x"), &usage));
            assert_ne!(cost.source, CostSource::Default, "{provider}/{name}");
            assert!(cost.price_id.is_some(), "{provider}/{name}");
            seen += 1;
        }
    }
    assert!(seen > 4_000, "{seen}");
}

#[test]
fn every_example_of_the_documentation_parses() {
    let text = include_str!("../../docs/PRICING.md");
    let blocks = text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let mut seen = 0;
    for block in blocks {
        let book = PriceBook::parse(block).unwrap_or_else(|errors| panic!("{errors}\n{block}"));
        let usage = tokens(1_000, 0);
        assert_price_by(
            &book,
            &call("house-eu", "their-4o", &usage),
            "0.00225 priced openai/gpt-4o",
        );
        seen += 1;
    }
    assert_eq!(seen, 1);
}

#[test]
fn the_documentation_names_every_key() {
    let text = include_str!("../../docs/PRICING.md");
    for (key, _) in rates::RATE_KEYS {
        assert!(text.contains(&format!("`{key}`")), "docs/PRICING.md lacks `{key}`");
    }
}

#[test]
fn a_zero_that_azure_reports_for_grok_is_not_believed() {
    let usage = tokens(1_000, 1_000);
    let call = Billable {
        reported: Some(Usd::ZERO),
        ..call("azure", "grok-4-1-fast-non-reasoning", &usage)
    };
    let cost = PriceBook::builtin().price(&call);
    assert_eq!(line(&cost), "0.0007 priced azure/grok-4-1-fast-non-reasoning");
}

/// Any usage, its parts often larger than its totals.
fn usages() -> impl Strategy<Value = Usage> {
    let figure = || prop_oneof![3 => Just(None), 5 => (0..2_000_000_u64).prop_map(Some), 1 => any::<u64>().prop_map(Some)];
    proptest::collection::vec(figure(), 16).prop_map(|f| Usage {
        input: f[0],
        cache_read: f[1],
        cache_write: f[2],
        cache_write_1h: f[3],
        audio_input: f[4],
        image_input: f[5],
        video_input: f[6],
        cache_read_audio: f[7],
        cache_read_image: f[8],
        output: f[9],
        reasoning: f[10],
        audio_output: f[11],
        image_output: f[12],
        total: f[13],
        web_searches: f[14],
        audio_input_ms: f[15],
    })
}

proptest! {
    #[test]
    fn no_text_upsets_the_parser(at in 0..TABLE.len(), cut in 0..12_usize, put in "[ -~\n]{0,6}") {
        if let (Some(before), Some(after)) = (TABLE.get(..at), TABLE.get(at + cut..))
            && let Err(errors) = PriceBook::parse(&format!("{before}{put}{after}"))
        {
            prop_assert!(errors.iter().all(|error| error.line > 0));
        }
    }

    #[test]
    fn no_number_upsets_the_parser(number in "[-+]?[0-9]{1,40}(_[0-9]{1,3})?(\\.[0-9]{1,40})?(e[-+]?[0-9]{1,12})?") {
        let _ = PriceBook::parse(&format!("[prices.a]\nm = {{ input = {number} }}"));
    }

    #[test]
    fn no_name_upsets_the_look_up(provider in ".{0,8}", name in "(us\\.|openai/|~|models/|gpt-4o|:free|@2|-20240806|é|.){0,12}") {
        let usage = million();
        for provider in ["openrouter", "bedrock", "azure", &provider] {
            let cost = BOOK.price(&call(provider, &name, &usage));
            prop_assert!(cost.usd.is_some());
        }
    }

    #[test]
    fn a_cost_is_the_sum_of_its_parts_and_never_negative(
        usage in usages(),
        side in usages(),
        model in prop::sample::select(vec![
            "gpt-4o", "gpt-5.5", "deep", "audio-hours", "dall-e-3", "search", "unheard-of",
        ]),
        tier in prop::sample::select(vec![None, Some("flex"), Some("batch")]),
    ) {
        let side = [("gpt-4o".to_owned(), side)];
        let call = Billable { service_tier: tier, side: &side, ..call("openai", model, &usage) };
        let cost = BOOK.price(&call);
        prop_assert!(cost.computed == cost.usd);
        match cost.usd {
            Some(usd) => {
                prop_assert_eq!(usd, cost.parts.iter().map(|part| part.usd).sum::<Usd>());
                prop_assert!(cost.parts.iter().all(|part| part.usd >= Usd::ZERO));
            }
            None => prop_assert!(cost.parts.is_empty() && cost.source == CostSource::None),
        }
    }

    #[test]
    fn classes_are_never_charged_beyond_their_totals(usage in usages()) {
        let cost = BOOK.price(&call("openai", "all", &usage));
        let sum = |classes: &[&str]| -> u128 {
            let of = cost.parts.iter().filter(|part| classes.contains(&part.class));
            of.map(|part| u128::from(part.quantity)).sum()
        };
        let input = sum(&["cached_audio_input", "cached_image_input", "cached_input", "cache_write_1h",
            "cache_write", "audio_input", "image_input", "video_input", "input"]);
        let output = sum(&["audio_output", "image_output", "reasoning", "output"]);
        if cost.usd.is_some() {
            if let Some(total) = usage.input {
                prop_assert_eq!(input, u128::from(total));
            }
            if let Some(total) = usage.output {
                prop_assert_eq!(output, u128::from(total));
            }
        }
    }
}
