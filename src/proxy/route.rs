//! Which upstream a path goes to. Owns the routing table; the path that is judged is, byte for byte,
//! the path that is forwarded.

use std::collections::HashMap;
use std::sync::Arc;

use super::Upstream;

/// First segments that are tokenmeter's own and never forwarded.
const RESERVED: [&str; 5] = ["admin", "metrics", "healthz", "readyz", "usage"];

/// Where a request goes.
#[derive(Debug)]
pub enum Route<'a> {
    /// To tokenmeter itself.
    Own,
    /// To an upstream, with this path (which begins with `/`).
    Forward { upstream: &'a Arc<Upstream>, path: &'a str },
}

/// The upstreams by name.
#[derive(Debug)]
pub struct Routes {
    by_name: HashMap<String, Arc<Upstream>>,
    default: Arc<Upstream>,
}

impl Routes {
    pub fn new(
        upstreams: impl IntoIterator<Item = Arc<Upstream>>,
        default: Arc<Upstream>,
    ) -> Routes {
        let by_name = upstreams.into_iter().map(|u| (u.name.to_string(), u)).collect();
        Routes { by_name, default }
    }

    /// Decides by the first segment, compared as it stands: no decoding, no normalising, so that no
    /// spelling of a forwarded path can reach what is reserved.
    pub fn find<'a>(&'a self, path: &'a str) -> Route<'a> {
        let rest = path.strip_prefix('/').unwrap_or(path);
        let (first, behind) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        if RESERVED.contains(&first) {
            return Route::Own;
        }
        match self.by_name.get(first) {
            Some(upstream) => Route::Forward { upstream, path: behind },
            None => Route::Forward { upstream: &self.default, path },
        }
    }
}
