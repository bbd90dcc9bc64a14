//! Whose calls are let in. Owns the judgement and the answer to a stranger; a call that is turned away has
//! cost nobody anything and goes nowhere.
//!
//! Invariant: an address is the connection's own. What a header says of one is never believed.

use std::collections::HashSet;
use std::net::IpAddr;

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use ipnet::IpNet;

use crate::fingerprint::Fingerprint;
use crate::respond::{self, ErrorCode};

/// Networks and keys; each list that is there must match.
#[derive(Debug, Default)]
pub struct Clients {
    networks: Option<Vec<IpNet>>,
    keys: Option<HashSet<Fingerprint>>,
}

impl Clients {
    pub fn new(networks: Option<Vec<IpNet>>, keys: Option<Vec<Fingerprint>>) -> Clients {
        Clients { networks, keys: keys.map(|keys| keys.into_iter().collect()) }
    }

    /// Whether it takes a key to judge.
    pub fn asks_for_keys(&self) -> bool {
        self.keys.is_some()
    }

    /// Nothing, or the answer to whoever is not let in.
    pub fn refuse(&self, from: IpAddr, found: &[Fingerprint]) -> Option<Response<Full<Bytes>>> {
        // One address has two forms where a socket takes both families.
        let from = from.to_canonical();
        if let Some(networks) = &self.networks
            && !networks.iter().any(|network| network.contains(&from))
        {
            let why = format!("calls from {from} are not let in (clients.networks)");
            return Some(forbidden(&why));
        }
        let keys = self.keys.as_ref()?;
        if found.is_empty() {
            return Some(forbidden("calls without a key are not let in (clients.keys)"));
        }
        // All of them: which one counts is for the provider to say.
        let stranger = found.iter().find(|key| !keys.contains(*key))?;
        tracing::debug!(fingerprint = %stranger, "a key that is not let in");
        Some(forbidden("calls with this key are not let in (clients.keys)"))
    }
}

fn forbidden(why: &str) -> Response<Full<Bytes>> {
    tracing::debug!(why, "turned away");
    respond::error(ErrorCode::Forbidden, why, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(list: &[&str]) -> Vec<IpNet> {
        list.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn key(text: &str) -> Fingerprint {
        text.parse().unwrap()
    }

    #[test]
    fn each_list_that_is_there_must_match() {
        let (ours, theirs) = (key("0123456789ab"), key("ba9876543210"));
        let here = || Some(networks(&["10.0.0.0/8", "::1/128"]));
        let anybody = Clients::default();
        let by_network = Clients::new(here(), None);
        let by_key = Clients::new(None, Some(vec![ours]));
        let by_both = Clients::new(here(), Some(vec![ours]));
        for (from, key, expected) in [
            ("10.1.2.3", Some(ours), [true; 4]),
            ("10.1.2.3", Some(theirs), [true, true, false, false]),
            ("10.1.2.3", None, [true, true, false, false]),
            ("::ffff:10.1.2.3", Some(ours), [true; 4]),
            ("::1", Some(ours), [true; 4]),
            ("11.1.2.3", Some(ours), [true, false, true, false]),
            ("::2", Some(ours), [true, false, true, false]),
            ("11.1.2.3", None, [true, false, false, false]),
        ] {
            let from: IpAddr = from.parse().unwrap();
            let found = [&anybody, &by_network, &by_key, &by_both]
                .map(|clients| clients.refuse(from, key.as_slice()).is_none());
            assert_eq!(found, expected, "{from} {key:?}");
        }
        let from = "10.1.2.3".parse().unwrap();
        assert!(by_key.refuse(from, &[ours, theirs]).is_some(), "one key would open for another");
    }
}
