//! The forms in which one model's name turns up: dated, versioned, behind a path. Owns cutting a
//! name down to the next plainer form; knows neither tables nor prices. Names are lower case already.

/// The name of the entry that a `price_id` of a model's own price begins with: `gpt-5.5` of
/// `openai/gpt-5.5@2026-01-01>272000+flex`.
pub fn entry_name(price_id: &str) -> Option<&str> {
    let (_, name) = price_id.split(',').next()?.split_once('/')?;
    let is_mark = |at: usize| {
        let rest = &name.as_bytes()[at + 1..];
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        match name.as_bytes()[at] {
            b'@' => digits == 4 && rest.get(4) == Some(&b'-'),
            b'~' => digits == 2 && rest.get(2) == Some(&b':'),
            b'>' => digits > 0,
            b'+' => !rest.is_empty(),
            _ => false,
        }
    };
    let end = name.char_indices().map(|(at, _)| at).find(|at| is_mark(*at));
    Some(&name[..end.unwrap_or(name.len())]).filter(|name| !name.is_empty())
}

/// The name without the resource path that some endpoints put before it:
/// `models/gemini-2.5-pro`, `publishers/google/models/…`, `accounts/fireworks/models/…`,
/// `arn:aws:bedrock:…:inference-profile/us.anthropic.…`.
pub(super) fn without_path(name: &str) -> Option<&str> {
    let plain = if name.starts_with("arn:") {
        name.rsplit('/').next()
    } else if let Some(rest) = name.strip_prefix("models/") {
        Some(rest)
    } else {
        name.rfind("/models/").map(|at| &name[at + "/models/".len()..])
    };
    plain.filter(|plain| !plain.is_empty() && plain.len() < name.len())
}

/// The name without the date or version at its end, or `None` where there is none:
/// `-2024-08-06`, `-20240806`, `@20240806`, `-001`, `@default`, and Bedrock's `-20240806-v1:0`.
pub(super) fn undated(name: &str) -> Option<&str> {
    let base = without_version(name);
    let plain = without_date(base).unwrap_or(base);
    (plain.len() < name.len() && !plain.is_empty()).then_some(plain)
}

/// Cuts `:0` and, before it, `-v1`; a bare `-v1` only where a date stands before it, because
/// elsewhere it is part of the name (`embed-english-v3`).
fn without_version(name: &str) -> &str {
    let (base, numbered) = match name.rsplit_once(':') {
        Some((base, version)) if is_digits(version, 1..=2) => (base, true),
        _ => (name, false),
    };
    match base.rsplit_once("-v") {
        Some((plain, version))
            if is_digits(version, 1..=2) && (numbered || without_date(plain).is_some()) =>
        {
            plain
        }
        _ => base,
    }
}

fn without_date(name: &str) -> Option<&str> {
    let cut = |tail: usize| name.len().checked_sub(tail).and_then(|at| name.split_at_checked(at));
    if let Some((plain, date)) = cut("-2024-08-06".len())
        && let [b'-', y @ .., b'-', m1, m2, b'-', d1, d2] = date.as_bytes()
        && y.iter().chain([m1, m2, d1, d2]).all(u8::is_ascii_digit)
    {
        return Some(plain);
    }
    let at = name.rfind(['-', '@'])?;
    let (plain, tail) = (&name[..at], &name[at + 1..]);
    let is_at = name.as_bytes()[at] == b'@';
    let known = is_digits(tail, 8..=8)
        || is_digits(tail, 3..=3)
        || (is_at && matches!(tail, "default" | "latest"));
    known.then_some(plain)
}

fn is_digits(text: &str, len: std::ops::RangeInclusive<usize>) -> bool {
    len.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_versions_come_off_the_end() {
        for (name, expected) in [
            ("gpt-4o-2024-08-06", Some("gpt-4o")),
            ("claude-sonnet-4-5-20250929", Some("claude-sonnet-4-5")),
            ("claude-opus-4@20250514", Some("claude-opus-4")),
            ("claude-opus-4-6@default", Some("claude-opus-4-6")),
            ("gemini-2.0-flash-001", Some("gemini-2.0-flash")),
            ("anthropic.claude-3-haiku-20240307-v1:0", Some("anthropic.claude-3-haiku")),
            ("anthropic.claude-3-haiku-20240307-v1", Some("anthropic.claude-3-haiku")),
            ("meta.llama3-8b-instruct-v1:0", Some("meta.llama3-8b-instruct")),
            ("embed-english-v3", None),
            ("gpt-4-0613", None),
            ("gpt-4o", None),
            ("llama3:8b", None),
            ("-20240806", None),
            ("é-2024-08-06", Some("é")),
            ("ééééééé", None),
        ] {
            assert_eq!(undated(name), expected, "{name}");
        }
    }

    #[test]
    fn a_price_id_names_its_entry() {
        for (id, expected) in [
            ("openai/gpt-4o", Some("gpt-4o")),
            ("openai/o3@2025-06-10", Some("o3")),
            ("openai/gpt-5.5@2026-12-31T16:00:00Z>272000+flex", Some("gpt-5.5")),
            ("deepseek/deepseek-flash~01:00-04:00", Some("deepseek-flash")),
            ("vertex/claude-sonnet-4@20250514", Some("claude-sonnet-4@20250514")),
            ("anthropic/claude-*>200000,anthropic/claude-opus", Some("claude-*")),
            ("any/vendor/model", Some("vendor/model")),
            ("openai/é@2025-06-10", Some("é")),
            ("default", None),
            ("free", None),
            ("", None),
        ] {
            assert_eq!(entry_name(id), expected, "{id}");
        }
    }

    #[test]
    fn paths_come_off_the_front() {
        for (name, expected) in [
            ("models/gemini-2.5-pro", Some("gemini-2.5-pro")),
            ("publishers/google/models/gemini-2.5-pro", Some("gemini-2.5-pro")),
            ("accounts/fireworks/models/kimi-k2", Some("kimi-k2")),
            (
                "arn:aws:bedrock:eu-west-1:1:inference-profile/eu.amazon.nova-lite-v1:0",
                Some("eu.amazon.nova-lite-v1:0"),
            ),
            ("openai/gpt-4o", None),
            ("models/", None),
        ] {
            assert_eq!(without_path(name), expected, "{name}");
        }
    }
}
