//! The providers that work by name alone. Owns their public addresses and which words can name an
//! upstream; knows nothing of what a provider speaks.

use super::base_url::BaseUrl;

/// A provider that has a name without being configured.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    pub name: &'static str,
    pub address: Address,
}

/// Where a known provider is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address {
    /// One public host, or the usual port of a server on this machine.
    BuiltIn(&'static str),
    /// One host per customer or region, so that it must be given; the form that it has.
    Given(&'static str),
}

const fn at(name: &'static str, base_url: &'static str) -> Known {
    Known { name, address: Address::BuiltIn(base_url) }
}

const fn given(name: &'static str, form: &'static str) -> Known {
    Known { name, address: Address::Given(form) }
}

/// All of them. Base URLs have no path: what follows the upstream's name in a request is the
/// provider's own path, whole (`/openrouter/api/v1/…`).
///
/// Local servers are at 127.0.0.1 rather than `localhost`, which many systems resolve to `::1`
/// first, where Ollama and its like do not listen.
pub const KNOWN: &[Known] = &[
    at("openai", "https://api.openai.com"),
    given("azure", "https://RESOURCE.openai.azure.com"),
    at("openrouter", "https://openrouter.ai"),
    at("anthropic", "https://api.anthropic.com"),
    at("gemini", "https://generativelanguage.googleapis.com"),
    at("vertex", "https://aiplatform.googleapis.com"),
    given("bedrock", "https://bedrock-runtime.REGION.amazonaws.com"),
    at("mistral", "https://api.mistral.ai"),
    at("groq", "https://api.groq.com"),
    at("together", "https://api.together.xyz"),
    at("cerebras", "https://api.cerebras.ai"),
    at("deepseek", "https://api.deepseek.com"),
    at("xai", "https://api.x.ai"),
    at("fireworks", "https://api.fireworks.ai"),
    at("perplexity", "https://api.perplexity.ai"),
    at("cohere", "https://api.cohere.com"),
    at("zai", "https://api.z.ai"),
    at("moonshot", "https://api.moonshot.ai"),
    at("huggingface", "https://router.huggingface.co"),
    at("ollama", "http://127.0.0.1:11434"),
    at("lmstudio", "http://127.0.0.1:1234"),
    at("llamacpp", "http://127.0.0.1:8080"),
    at("vllm", "http://127.0.0.1:8000"),
];

/// The known provider of that name.
pub fn known(name: &str) -> Option<&'static Known> {
    KNOWN.iter().find(|known| known.name == name)
}

/// The address of a known provider that has one.
pub(super) fn built_in(name: &str) -> Option<BaseUrl> {
    match known(name)?.address {
        Address::BuiltIn(url) => Some(url.parse().expect("built-in addresses are valid")),
        Address::Given(_) => None,
    }
}

/// First path segments that are tokenmeter's own and never forwarded.
pub const RESERVED: &[&str] = &["admin", "metrics", "healthz", "readyz", "usage"];

/// First path segments of nearly every provider's API: an upstream of that name would take the
/// default upstream's calls away (`/v1/chat/completions`).
const API_ROOTS: &[&str] = &["v1", "v1alpha", "v1beta", "v2", "api"];

/// First path segments of some providers' APIs: legal as a name, but seldom meant.
const API_WORDS: &[&str] =
    &["chat", "completions", "embeddings", "inference", "messages", "model", "models", "responses"];

/// Where the API of a provider has paths that begin with another upstream's name, these never
/// reach it as the default upstream, only under its own name (`/azure/openai/deployments/…`).
const OVERLAPS: &[(&str, &str)] =
    &[("azure", "openai"), ("deepseek", "anthropic"), ("groq", "openai")];

/// Whether a word can name an upstream; `Err` says why not.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if name.is_empty() || !name.chars().all(legal) {
        return Err(format!(
            "`{name}` cannot name an upstream: use lower-case letters, digits, `-` and `_`"
        ));
    }
    if RESERVED.contains(&name) {
        return Err(format!(
            "`{name}` cannot name an upstream: /{name} is a page of tokenmeter's own"
        ));
    }
    if API_ROOTS.contains(&name) {
        return Err(format!(
            "`{name}` cannot name an upstream: paths that begin with /{name} belong to the default \
             upstream"
        ));
    }
    Ok(())
}

/// What is odd about a legal name.
pub(super) fn doubt_name(name: &str) -> Option<String> {
    API_WORDS.contains(&name).then(|| {
        format!("paths that begin with /{name} go to this upstream and not to the default one")
    })
}

/// What is odd about a provider as the default upstream.
pub(super) fn doubt_default(name: &str, provider: &str) -> Option<String> {
    let (_, taken) = OVERLAPS.iter().find(|(overlapping, _)| *overlapping == provider)?;
    Some(format!(
        "paths that begin with /{taken} go to the upstream `{taken}`, also where {provider} has such \
         paths; let clients of {provider} use /{name} as their base URL"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_names_are_legal_and_overlaps_are_known() {
        assert_eq!(KNOWN.len(), 23);
        for known in KNOWN {
            assert_eq!(check_name(known.name), Ok(()));
            assert_eq!(doubt_name(known.name), None);
            let given = matches!(known.address, Address::Given(_));
            assert_eq!(built_in(known.name).is_none(), given);
            assert!(built_in(known.name).is_none_or(|url| url.prefix.is_empty()));
        }
        for (provider, taken) in OVERLAPS {
            assert!(known(provider).is_some() && known(taken).is_some());
        }
    }

    #[test]
    fn words_that_would_shadow_a_path_are_refused() {
        for name in RESERVED.iter().chain(API_ROOTS).chain(&["", "Azure", "a/b", "a.b", "ä"]) {
            assert!(check_name(name).is_err(), "{name}");
        }
        assert!(doubt_name("chat").is_some());
    }
}
