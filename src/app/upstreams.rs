//! From the configuration to what the proxy wants: every upstream with its address, its TLS and its
//! timeouts, and the routing table.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use http::uri::Authority;

use super::StartError;
use crate::config::{self, Config};
use crate::provider::stream_usage::reports_unasked;
use crate::proxy::{
    DrainLimits, Http2, Injection, Origin, Playing, Routes, Target, TraceHeaders, Upstream,
    tls_config,
};

/// Every upstream of the configuration, as the proxy wants it.
pub(super) fn upstreams(config: &Config) -> Result<Vec<Arc<Upstream>>, StartError> {
    let usual = tls_config(&[]).map_err(|error| StartError::new("TLS", error))?;
    let spans = config.otlp.as_ref().map(|otlp| &otlp.settings).filter(|otlp| otlp.traces);
    let spans = spans.map(|otlp| otlp.sampler);
    let mut upstreams = Vec::with_capacity(config.upstreams.len());
    for upstream in config.upstreams.values() {
        let base = &upstream.base_url;
        let wrong = |error: &dyn fmt::Display| {
            StartError(format!("upstream `{}`, base_url {base}: {error}", upstream.name))
        };
        if upstream.api_key.is_some() {
            let missing = "api_key_env needs keys of tokenmeter's own for the clients, which this \
                           version does not have; let the clients' own keys pass through";
            return Err(StartError(format!("upstream `{}`: {missing}", upstream.name)));
        }
        let authority: Authority = base.authority.parse().map_err(|error| wrong(&error))?;
        let origin = if base.is_tls() {
            let tls = match &upstream.extra_roots {
                None => Arc::clone(&usual),
                Some(extra) => tls_config(&extra.certificates).map_err(|error| wrong(&error))?,
            };
            Origin::https(authority, &base.host, &tls)
        } else {
            Origin::http(authority)
        };
        let target = Target {
            index: upstreams.len(),
            origin: origin.map_err(|error| wrong(&error))?,
            http2: match upstream.http2 {
                config::Http2::Auto => Http2::Auto,
                config::Http2::Never => Http2::Never,
                config::Http2::Always => Http2::Always,
            },
            connect_timeout: upstream.timeouts.connect,
            pool_idle: upstream.timeouts.pool_idle,
        };
        let injects = upstream.stream_usage == config::StreamUsage::Inject
            && !reports_unasked(&upstream.provider);
        upstreams.push(Arc::new(Upstream {
            name: upstream.name.clone(),
            provider: upstream.provider.clone(),
            target: Arc::new(target),
            prefix: base.prefix.clone(),
            deployments: upstream.deployments.clone().into_iter().collect(),
            head_timeout: upstream.timeouts.response_head,
            idle_timeout: upstream.timeouts.idle,
            injection: injects.then(Injection::default),
            drain: upstream.drain.map(|drain| DrainLimits { time: drain.time, bytes: drain.bytes }),
            trace: match (upstream.trace_context, spans) {
                (config::TraceTo::Pass, _) | (config::TraceTo::Own, None) => TraceHeaders::Pass,
                (config::TraceTo::Own, Some(sampler)) => TraceHeaders::Own(sampler),
                (config::TraceTo::Drop, _) => TraceHeaders::Drop,
            },
        }));
    }
    Ok(upstreams)
}

/// The same upstreams, played within this process.
pub(super) fn played(upstreams: Vec<Arc<Upstream>>, within: &Playing) -> Vec<Arc<Upstream>> {
    let play = |upstream: Arc<Upstream>| {
        let mut upstream = Arc::into_inner(upstream).expect("nobody else has it yet");
        let target = Arc::into_inner(upstream.target).expect("its upstream alone has it");
        let origin = target.origin.played(Arc::clone(within));
        upstream.target = Arc::new(Target { origin, ..target });
        Arc::new(upstream)
    };
    upstreams.into_iter().map(play).collect()
}

pub(super) fn routes(config: &Config, upstreams: Vec<Arc<Upstream>>) -> Result<Routes, StartError> {
    let default = upstreams.iter().find(|upstream| upstream.name == config.default_upstream);
    let default = default.cloned().ok_or_else(|| {
        StartError(format!("default_upstream `{}` is not configured", config.default_upstream))
    })?;
    let unconfigured: HashMap<String, String> = config::known::KNOWN
        .iter()
        .filter_map(|known| {
            Some((known.name.to_owned(), Config::known_but_unconfigured(known.name)?))
        })
        .collect();
    Ok(Routes::new(upstreams, unconfigured, default))
}
