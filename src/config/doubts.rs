//! Odd but legal things that are worth a line in the log. Owns the warnings that need the whole
//! configuration, with `exposure` for what is open to others; refuses nothing.

use super::base_url::BaseUrl;
use super::exposure;
use super::known;
use super::problem::Findings;
use super::settings::{Config, Http2, StreamUsage, TraceTo, Upstream};
use super::typed::Typed;
use crate::provider::stream_usage::reports_unasked;

pub(super) fn note(config: &Config, typed: &Typed, findings: &mut Findings) {
    exposure::note(config, typed, findings);
    note_otlp(config, findings);
    for upstream in config.upstreams.values() {
        let section = typed.upstreams.get(&upstream.name);
        let origin = section.and_then(|section| section.origin.as_ref());
        for doubt in doubts_about(upstream, config) {
            findings.warning(origin, format!("upstreams.{}: {doubt}", upstream.name));
        }
    }
    if let Some(upstream) = config.upstreams.get(&config.default_upstream)
        && let Some(doubt) = known::doubt_default(&upstream.name, &upstream.provider)
    {
        findings.warning(None, format!("default_upstream: {doubt}"));
    }
}

fn note_otlp(config: &Config, findings: &mut Findings) {
    let Some(otlp) = &config.otlp else { return };
    let endpoint = otlp.settings.endpoint.parse::<BaseUrl>();
    let Ok(endpoint) = endpoint else { return };
    if endpoint.is_local() && endpoint.port == config.listen.port() {
        let message = format!(
            "otlp.endpoint: {endpoint} is where tokenmeter itself listens; what is told of each call would \
             be a call again"
        );
        findings.warning(None, message);
    }
    if !otlp.settings.headers.is_empty() && !endpoint.is_tls() && !endpoint.is_local() {
        let message = format!("otlp.headers: they travel to {endpoint} without encryption");
        findings.warning(None, message);
    }
}

fn doubts_about(upstream: &Upstream, config: &Config) -> Vec<String> {
    let url = &upstream.base_url;
    let mut doubts: Vec<String> = known::doubt_name(&upstream.name).into_iter().collect();
    // A base URL that ends as SDKs' base URLs do is the usual slip: clients send that part themselves.
    if url.prefix == "/v1" || url.prefix.ends_with("/v1") {
        doubts.push(format!(
            "base_url ends in /v1, so that /{0}/v1/… goes to {url}/v1/…; leave /v1 out, or let clients \
             use /{0} as their base URL",
            upstream.name
        ));
    }
    // Only where it was meant: a built-in local address that nobody uses may well be ours.
    let meant = upstream.configured || upstream.name == config.default_upstream;
    if meant && url.is_local() && url.port == config.listen.port() {
        doubts.push(format!("{url} is where tokenmeter itself listens; calls would go in circles"));
    }
    if upstream.api_key.is_some() && !url.is_tls() && !url.is_local() {
        doubts.push(format!("its key travels to {url} without encryption"));
    }
    if upstream.extra_roots.is_some() && upstream.configured && !url.is_tls() {
        doubts.push("ca_file has no effect over http".to_owned());
    }
    if upstream.http2 == Http2::Never && !url.is_tls() {
        doubts.push("http2 = \"never\" has no effect over http".to_owned());
    }
    let has_spans = config.otlp.as_ref().is_some_and(|otlp| otlp.settings.traces);
    if upstream.trace_context == TraceTo::Own && !has_spans {
        doubts
            .push("trace_context = \"own\" has no effect without spans (otlp.endpoint)".to_owned());
    }
    if upstream.stream_usage == StreamUsage::Inject && reports_unasked(&upstream.provider) {
        doubts.push(format!(
            "stream_usage = \"inject\" has no effect: {} reports usage in every stream unasked",
            upstream.provider
        ));
    }
    doubts
}
