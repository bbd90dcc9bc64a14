//! What stands for a client's key where one must be told from another. Owns where in a request a key is found,
//! and the hash with its secret, which is made once and kept beside the database; keeps no key.
//!
//! Invariant: whoever has fingerprints but not the secret can neither find a key nor test a guess.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::path::Path;
use std::str::FromStr;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use percent_encoding::percent_decode_str;
use ring::hmac;

use crate::secret::Secret;

/// The secret's file, beside the database.
pub const SECRET_FILE: &str = "tokenmeter.secret";

/// What may stand before a fingerprint where people write one.
const PREFIX: &str = "key:";

/// Bytes of the hash that are kept: enough to tell some ten thousand keys apart.
const BYTES: usize = 6;

/// Shorter secrets were not made by us.
const SHORTEST_SECRET: usize = 32;

/// Headers that hold nothing but a key: Azure's, Anthropic's, Google's.
const KEY_HEADERS: [&str; 3] = ["api-key", "x-api-key", "x-goog-api-key"];

/// The parameter that holds one in Google's APIs.
const KEY_PARAMETER: &str = "key";

/// A key's fingerprint. Displays as 12 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; BYTES]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What is not a fingerprint. It is not repeated, since it may be a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoFingerprint;

impl FromStr for Fingerprint {
    type Err = NoFingerprint;

    /// 12 hexadecimal digits, with `key:` before them or without.
    fn from_str(text: &str) -> Result<Fingerprint, NoFingerprint> {
        let digits = text.trim().strip_prefix(PREFIX).unwrap_or(text.trim());
        if digits.len() != 2 * BYTES || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(NoFingerprint);
        }
        let mut bytes = [0; BYTES];
        for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
            let pair = str::from_utf8(pair).map_err(|_| NoFingerprint)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| NoFingerprint)?;
        }
        Ok(Fingerprint(bytes))
    }
}

/// Takes fingerprints.
pub struct Fingerprints(hmac::Key);

impl fmt::Debug for Fingerprints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprints(…)")
    }
}

impl Fingerprints {
    /// With the secret beside the database, which is made if there is none. Errors name the file.
    pub fn load(database: &Path) -> io::Result<Fingerprints> {
        let path = database.with_file_name(SECRET_FILE);
        let secret = Secret::read_or_make(&path)?;
        if secret.expose().len() < SHORTEST_SECRET {
            let why = format!("{} is too short for a secret", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        Ok(Fingerprints(hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes())))
    }

    pub fn of(&self, key: &[u8]) -> Fingerprint {
        let hash = hmac::sign(&self.0, key);
        let mut bytes = [0; BYTES];
        bytes.copy_from_slice(&hash.as_ref()[..BYTES]);
        Fingerprint(bytes)
    }

    /// Of every key that a request has: a provider takes one of them, and which one is the provider's to say.
    pub fn of_all(&self, headers: &HeaderMap, query: Option<&str>) -> Vec<Fingerprint> {
        keys_of(headers, query).map(|key| self.of(&key)).collect()
    }

    /// Of the key that a request has; `None` where it has none.
    pub fn of_request(&self, headers: &HeaderMap, query: Option<&str>) -> Option<Fingerprint> {
        keys_of(headers, query).next().map(|key| self.of(&key))
    }
}

/// Keys where they are looked for, in this order: a bearer token, a header of a provider's, a parameter.
fn keys_of<'a>(
    headers: &'a HeaderMap,
    query: Option<&'a str>,
) -> impl Iterator<Item = Cow<'a, [u8]>> {
    let bearers = headers.get_all(AUTHORIZATION).into_iter();
    let bearers = bearers.filter_map(|value| bearer(value.as_bytes()));
    let values = KEY_HEADERS.iter().flat_map(|name| headers.get_all(*name));
    let values = values.map(|value| value.as_bytes().trim_ascii()).filter(|key| !key.is_empty());
    let parameters = query.unwrap_or_default().split('&').filter_map(in_pair);
    bearers.chain(values).map(Cow::Borrowed).chain(parameters)
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    let at = value.iter().position(|byte| *byte == b' ')?;
    let (scheme, key) = value.split_at(at);
    let key = key.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer") && !key.is_empty()).then_some(key)
}

fn in_pair(pair: &str) -> Option<Cow<'_, [u8]>> {
    let (name, key) = pair.split_once('=')?;
    (name == KEY_PARAMETER && !key.is_empty()).then(|| percent_decode_str(key).into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn fingerprints() -> (tempfile::TempDir, Fingerprints) {
        let home = tempfile::tempdir().unwrap();
        let fingerprints = Fingerprints::load(&home.path().join("some.db")).unwrap();
        (home, fingerprints)
    }

    #[test]
    fn a_key_has_one_fingerprint_wherever_it_stands() {
        let (home, fingerprints) = fingerprints();
        let expected = fingerprints.of(b"sk-one");
        let of = |name: &'static str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            fingerprints.of_request(&headers, None)
        };
        for (name, value) in [
            ("authorization", "Bearer sk-one"),
            ("authorization", "bearer  sk-one"),
            ("api-key", "sk-one"),
            ("x-api-key", "sk-one"),
            ("x-goog-api-key", "sk-one"),
        ] {
            assert_eq!(of(name, value), Some(expected), "{name}: {value}");
        }
        for query in ["key=sk-one", "alt=sse&key=sk-one", "key=&key=sk%2Done", "a&key=sk-one&b"] {
            let found = fingerprints.of_request(&HeaderMap::new(), Some(query));
            assert_eq!(found, Some(expected), "{query}");
        }
        assert_ne!(fingerprints.of(b"sk-two"), expected);
        for (name, value) in [
            ("authorization", "Basic sk-one"),
            ("authorization", "sk-one"),
            ("authorization", "Bearer "),
            ("x-key", "sk-one"),
            ("api-key", ""),
        ] {
            assert_eq!(of(name, value), None, "{name}: {value}");
        }
        for query in ["", "keys=sk-one", "key", "key=", "KEY=sk-one"] {
            assert_eq!(fingerprints.of_request(&HeaderMap::new(), Some(query)), None, "{query}");
        }
        // The secret stays, and is its owner's alone.
        let database = home.path().join("other.db");
        assert_eq!(Fingerprints::load(&database).unwrap().of(b"sk-one"), expected);
        let mode = std::fs::metadata(home.path().join(SECRET_FILE)).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
        // With another secret it is another one.
        assert_ne!(self::fingerprints().1.of(b"sk-one"), expected);
        assert_eq!(format!("{fingerprints:?}"), "Fingerprints(…)");
    }

    #[test]
    fn a_fingerprint_is_written_in_one_way_and_read_in_two() {
        let (_home, fingerprints) = fingerprints();
        let one = fingerprints.of(b"sk-one");
        let text = one.to_string();
        assert_eq!(text.len(), 12);
        assert_eq!((text.parse(), format!("key:{text}").parse()), (Ok(one), Ok(one)));
        for text in ["", "key:", "0123456789a", "0123456789abc", "0123456789ag", "+123456789ab"] {
            assert_eq!(text.parse::<Fingerprint>(), Err(NoFingerprint), "{text}");
        }
    }

    #[test]
    fn a_secret_that_is_none_is_an_error() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join(SECRET_FILE);
        for text in ["", "short", "two words of which each is long enough to be one"] {
            std::fs::write(&file, text).unwrap();
            let error = Fingerprints::load(&home.path().join("some.db")).unwrap_err();
            assert!(error.to_string().contains(SECRET_FILE), "{error}");
        }
    }
}
