//! Which upstream a path goes to. Owns the routing table; the path that is judged is, byte for byte,
//! the path that is forwarded.

use std::collections::HashMap;
use std::sync::Arc;

use super::Upstream;

/// First segments that are tokenmeter's own and never forwarded: what only its operator may see, and the rest.
const OPERATORS: [&str; 2] = ["admin", "metrics"];
const ANYBODYS: [&str; 3] = ["healthz", "readyz", "usage"];

/// Where a request goes.
#[derive(Debug)]
pub enum Route {
    /// To tokenmeter itself.
    Own,
    /// To tokenmeter itself as well, where its operator looks.
    Operator,
    /// To an upstream, without the first `skip` bytes of its path.
    Forward { upstream: Arc<Upstream>, skip: usize },
    /// To a known provider that is not configured; says what to do about it.
    Unconfigured(String),
}

/// The upstreams by name.
#[derive(Debug)]
pub struct Routes {
    by_name: HashMap<String, Arc<Upstream>>,
    unconfigured: HashMap<String, String>,
    default: Arc<Upstream>,
}

impl Routes {
    /// `unconfigured`: names of providers whose address is not known, with the message for whoever
    /// calls them. Their calls, and the keys in them, must not end up at the default upstream.
    pub fn new(
        upstreams: impl IntoIterator<Item = Arc<Upstream>>,
        unconfigured: HashMap<String, String>,
        default: Arc<Upstream>,
    ) -> Routes {
        let by_name = upstreams.into_iter().map(|u| (u.name.clone(), u)).collect();
        Routes { by_name, unconfigured, default }
    }

    /// Decides by the first segment, compared as it stands: no decoding, no normalising, so that no
    /// spelling of a forwarded path can reach what is reserved.
    pub fn find(&self, path: &str) -> Route {
        let rest = path.strip_prefix('/').unwrap_or(path);
        let first = rest.split('/').next().unwrap_or_default();
        if ANYBODYS.contains(&first) {
            return Route::Own;
        }
        if OPERATORS.contains(&first) {
            return Route::Operator;
        }
        if let Some(upstream) = self.by_name.get(first) {
            return Route::Forward { upstream: Arc::clone(upstream), skip: 1 + first.len() };
        }
        if let Some(message) = self.unconfigured.get(first) {
            return Route::Unconfigured(message.clone());
        }
        Route::Forward { upstream: Arc::clone(&self.default), skip: 0 }
    }
}
