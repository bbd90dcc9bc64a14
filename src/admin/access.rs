//! Who may ask: the admin token, and the sessions of browsers that have logged in with a link. Owns
//! the token's file and everything that opens the door; knows nothing of what is behind it.
//!
//! Invariant: without a token there is no door. A blank token matches nothing, and every comparison
//! takes as long for a near miss as for a wild guess.

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::Method;
use http::header::{AUTHORIZATION, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN};
use http::request::Parts;
use http::uri::Authority;

use super::guard::Guard;
use crate::secret::Secret;

/// The token's file, beside the database.
pub const TOKEN_FILE: &str = "tokenmeter.token";

/// Begins the name of the cookie that holds a browser's session. Browsers keep cookies by host and not by port,
/// so what follows is another one for each tokenmeter.
const SESSION_COOKIE: &str = "tokenmeter_session_";

/// Says where a request comes from: `same-origin`, `same-site`, `cross-site`, or `none` for what was typed.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// How long a browser stays logged in at most. They are all forgotten at a restart.
const SESSION_LIFE: Duration = Duration::from_hours(7 * 24);

/// Login links that wait to be used, and browsers logged in: the oldest give way.
const CODES: usize = 8;
const SESSIONS: usize = 64;

/// The admin token and what it has let in.
#[derive(Debug)]
pub struct Access {
    token: Secret,
    cookie: String,
    doors: Mutex<Doors>,
    /// Wrong tokens.
    guard: Guard,
    /// Wrong login links, apart: to follow one must not keep anybody from giving a token.
    codes_guard: Guard,
}

/// What came of asking to be let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Admitted,
    /// Without a token, or with a wrong one.
    Unknown,
    /// After too many wrong ones; how long to wait.
    TooOften(Duration),
}

#[derive(Debug, Default)]
struct Doors {
    codes: VecDeque<Secret>,
    sessions: VecDeque<(Secret, Instant)>,
}

impl Access {
    /// The configured token, or the one in the file beside the database, which is made if there is
    /// none. Errors name the file.
    /// `instance` is a word that no other tokenmeter has.
    pub fn load(configured: Option<Secret>, database: &Path, instance: &str) -> io::Result<Access> {
        let token = match configured {
            Some(token) => token.checked().map_err(|why| {
                io::Error::new(io::ErrorKind::InvalidInput, format!("the admin token {why}"))
            })?,
            None => Secret::read_or_make(&database.with_file_name(TOKEN_FILE))?,
        };
        let cookie = format!("{SESSION_COOKIE}{instance}");
        Ok(Access {
            token,
            cookie,
            doors: Mutex::default(),
            guard: Guard::default(),
            codes_guard: Guard::default(),
        })
    }

    /// The name of the cookie that holds a session.
    pub(super) fn cookie(&self) -> &str {
        &self.cookie
    }

    /// Whether a request may see, or change, what is tokenmeter's own. Where an address has given too many wrong
    /// tokens, none is looked at that comes from there, not even a right one: else its guesses would go on.
    pub(super) fn admits(&self, request: &Parts, from: IpAddr) -> Entry {
        let Parts { method, headers, .. } = request;
        if self.has_session(headers) && is_own_doing(method, headers, request.uri.authority()) {
            return Entry::Admitted;
        }
        if !headers.contains_key(AUTHORIZATION) {
            return Entry::Unknown;
        }
        let now = Instant::now();
        if let Some(wait) = self.guard.wait(from, now) {
            return Entry::TooOften(wait);
        }
        if self.has_token(headers) {
            return Entry::Admitted;
        }
        self.guard.failed(from, now);
        Entry::Unknown
    }

    /// A new code that logs in once.
    pub(super) fn issue_code(&self) -> Secret {
        let code = Secret::random();
        let mut doors = self.lock();
        doors.codes.push_back(code.clone());
        while doors.codes.len() > CODES {
            doors.codes.pop_front();
        }
        code
    }

    /// Logs in with a code, once. Codes cannot be guessed at any rate, and any page can make a browser try one:
    /// so a right one works always, and wrong ones count for nothing but themselves.
    pub(super) fn log_in(&self, code: &str, from: IpAddr) -> Result<Secret, Entry> {
        let now = Instant::now();
        self.redeem(code).ok_or_else(|| {
            let wait = self.codes_guard.wait(from, now);
            self.codes_guard.failed(from, now);
            wait.map_or(Entry::Unknown, Entry::TooOften)
        })
    }

    /// Takes a code, which is void from then on, and gives a session for it.
    fn redeem(&self, code: &str) -> Option<Secret> {
        let mut doors = self.lock();
        let before = doors.codes.len();
        doors.codes.retain(|known| !known.matches(code.as_bytes()));
        if doors.codes.len() == before {
            return None;
        }
        let session = Secret::random();
        doors.sessions.push_back((session.clone(), Instant::now()));
        while doors.sessions.len() > SESSIONS {
            doors.sessions.pop_front();
        }
        Some(session)
    }

    /// One `Authorization: Bearer TOKEN`. Two such headers could be read differently by something in
    /// front, so they count for nothing.
    fn has_token(&self, headers: &HeaderMap) -> bool {
        let mut given = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (given.next(), given.next()) else { return false };
        let value = value.as_bytes();
        let Some(at) = value.iter().position(|byte| *byte == b' ') else { return false };
        let (scheme, token) = value.split_at(at);
        scheme.eq_ignore_ascii_case(b"bearer") && self.token.matches(token.trim_ascii())
    }

    fn has_session(&self, headers: &HeaderMap) -> bool {
        let mut doors = self.lock();
        doors.sessions.retain(|(_, since)| since.elapsed() < SESSION_LIFE);
        cookies(headers, &self.cookie)
            .any(|given| doors.sessions.iter().any(|(known, _)| known.matches(given.as_bytes())))
    }

    fn lock(&self) -> MutexGuard<'_, Doors> {
        self.doors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a browser was made to ask by our own page, or by whoever sits before it: a page of another origin
/// can make it send its cookie along where both are of one site, as all ports of one host are.
fn is_own_doing(method: &Method, headers: &HeaderMap, authority: Option<&Authority>) -> bool {
    let text = |name: &HeaderName| headers.get(name).map(HeaderValue::as_bytes);
    let site = text(&SEC_FETCH_SITE);
    if method.is_safe() {
        let is_followed_link = text(&SEC_FETCH_MODE) == Some(b"navigate");
        return matches!(site, None | Some(b"same-origin" | b"none")) || is_followed_link;
    }
    let host = authority.map(|authority| authority.as_str().as_bytes()).or(text(&HOST));
    let is_of_this_origin = text(&ORIGIN).map(|origin| {
        let place = origin.strip_prefix(b"https://").or(origin.strip_prefix(b"http://"));
        place.is_some() && place == host
    });
    match (site, is_of_this_origin) {
        (None, None) => false,
        (site, origin) => site.is_none_or(|site| site == b"same-origin") && origin != Some(false),
    }
}

/// What a browser remembers under a name.
pub(super) fn cookie<'h>(headers: &'h HeaderMap, name: &'h str) -> Option<&'h str> {
    cookies(headers, name).next()
}

/// The same, where there may be several: those of longer paths come first.
fn cookies<'h>(headers: &'h HeaderMap, name: &'h str) -> impl Iterator<Item = &'h str> {
    let values = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = values.flat_map(|value| value.split(';'));
    pairs.filter_map(move |pair| match pair.trim().split_once('=') {
        Some((known, value)) if known == name => Some(value),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn access(token: &str) -> Access {
        Access::load(Some(Secret::new(token)), Path::new("none"), "x").unwrap()
    }

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn asks(access: &Access, method: &Method, headers: HeaderMap, from: usize) -> Entry {
        let mut request = http::Request::new(());
        *request.method_mut() = method.clone();
        *request.headers_mut() = headers;
        let from = u32::try_from(from).unwrap();
        access.admits(&request.into_parts().0, IpAddr::from(from.to_be_bytes()))
    }

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        let value = |text| HeaderValue::from_str(text).unwrap();
        pairs.iter().map(|(name, text)| (name.clone(), value(text))).collect()
    }

    #[test]
    fn a_token_is_made_once_and_for_its_owner_only() {
        let home = tempfile::tempdir().unwrap();
        let database = home.path().join("some.db");
        let first = Access::load(None, &database, "x").unwrap();
        let again = Access::load(None, &database, "x").unwrap();
        assert_eq!(first.token.expose(), again.token.expose());
        assert_eq!(first.token.expose().len(), 64);
        let found = fs::metadata(home.path().join(TOKEN_FILE)).unwrap();
        assert_eq!(found.mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_empty_file_or_token_is_an_error_and_no_open_door() {
        let home = tempfile::tempdir().unwrap();
        let database = home.path().join("some.db");
        for text in ["", " \n", "two words", "a\nb", "schlüssel"] {
            fs::write(home.path().join(TOKEN_FILE), text).unwrap();
            let error = Access::load(None, &database, "x").unwrap_err();
            assert!(error.to_string().contains(TOKEN_FILE), "{error}");
        }
        for text in ["", "  ", "a b"] {
            assert!(Access::load(Some(Secret::new(text)), &database, "x").is_err(), "{text:?}");
        }
    }

    #[test]
    fn only_the_right_token_in_one_header_opens() {
        let access = access("right");
        let opens = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
            }
            // Each from elsewhere, so that none is one too many.
            asks(&access, &Method::GET, headers, values.len()) == Entry::Admitted
        };
        assert!(opens(&["Bearer right"]) && opens(&["bearer right"]) && opens(&["BEARER  right"]));
        let wrong: [&[&str]; 10] = [
            &[],
            &[""],
            &["right"],
            &["Bearer"],
            &["Bearer "],
            &["Bearer righ"],
            &["Bearer right2"],
            &["Basic right"],
            &["Bearer right", "Bearer right"],
            &["Bearer wrong", "Bearer right"],
        ];
        for values in wrong {
            assert!(!opens(values), "{values:?}");
        }
    }

    #[test]
    fn a_code_logs_in_once_and_no_other_page_can_use_the_session() {
        let access = access("right");
        let code = access.issue_code();
        for wrong in ["", "right"] {
            assert_eq!(access.log_in(wrong, HERE).unwrap_err(), Entry::Unknown);
        }
        let session = access.log_in(code.expose(), HERE).unwrap();
        assert!(access.log_in(code.expose(), HERE).is_err());
        assert!(session.expose() != code.expose());
        let cookie = format!("a=b; {}={}; c", access.cookie(), session.expose());
        let admits = |method: Method, more: &[(HeaderName, &str)]| {
            let mut given = headers(&[(COOKIE, &cookie), (HOST, "tm:4100")]);
            given.extend(headers(more).into_iter().map(|(name, value)| (name.unwrap(), value)));
            asks(&access, &method, given, 1) == Entry::Admitted
        };
        let (site, mode) = (SEC_FETCH_SITE, SEC_FETCH_MODE);
        for (method, more, expected) in [
            (Method::GET, &[][..], true),
            (Method::HEAD, &[], true),
            (Method::GET, &[(site.clone(), "same-origin")], true),
            (Method::GET, &[(site.clone(), "none")], true),
            (Method::GET, &[(site.clone(), "same-site"), (mode.clone(), "no-cors")], false),
            (Method::GET, &[(site.clone(), "cross-site"), (mode.clone(), "cors")], false),
            (Method::GET, &[(site.clone(), "cross-site"), (mode.clone(), "navigate")], true),
            (Method::POST, &[], false),
            (Method::POST, &[(site.clone(), "same-origin")], true),
            (Method::POST, &[(site.clone(), "none")], false),
            (Method::POST, &[(site.clone(), "same-site"), (mode, "navigate")], false),
            (Method::POST, &[(site.clone(), "cross-site")], false),
            (Method::POST, &[(ORIGIN, "http://tm:4100")], true),
            (Method::POST, &[(ORIGIN, "https://tm:4100")], true),
            (Method::POST, &[(ORIGIN, "http://tm:4101")], false),
            (Method::POST, &[(ORIGIN, "http://evil.example")], false),
            (Method::POST, &[(ORIGIN, "null")], false),
            (Method::POST, &[(ORIGIN, "http://evil"), (site.clone(), "same-origin")], false),
            (Method::POST, &[(ORIGIN, "http://tm:4100"), (site.clone(), "same-origin")], true),
            (Method::POST, &[(ORIGIN, "http://tm:4100"), (site, "same-site")], false),
        ] {
            assert_eq!(admits(method.clone(), more), expected, "{method} {more:?}");
        }
        let name = access.cookie();
        for cookie in ["", &format!("{name}="), &format!("{name}=right"), name] {
            let headers = headers(&[(COOKIE, cookie)]);
            assert_eq!(asks(&access, &Method::GET, headers, 1), Entry::Unknown, "{cookie}");
        }
    }

    #[test]
    fn who_guesses_is_no_longer_heard_and_shuts_out_nobody_else() {
        let access = access("right");
        let token = |text: &str| headers(&[(AUTHORIZATION, &format!("Bearer {text}"))]);
        let wrong = || asks(&access, &Method::GET, token("wrong"), 1);
        let tries = (0..1000).take_while(|_| wrong() == Entry::Unknown).count();
        assert!((10..100).contains(&tries), "{tries}");
        let Entry::TooOften(wait) = wrong() else { panic!("it may go on") };
        assert!(wait > Duration::ZERO && wait < Duration::from_mins(1), "{wait:?}");
        // Not even the right one is looked at, or guessing would go on.
        assert!(matches!(asks(&access, &Method::GET, token("right"), 1), Entry::TooOften(_)));
        assert_eq!(asks(&access, &Method::GET, token("right"), 2), Entry::Admitted);
        // Nor does it matter to a browser that is logged in, or logs in.
        let from = IpAddr::from(1_u32.to_be_bytes());
        let session = access.log_in(access.issue_code().expose(), from).unwrap();
        let cookie = headers(&[(COOKIE, &format!("{}={}", access.cookie(), session.expose()))]);
        assert_eq!(asks(&access, &Method::GET, cookie, 1), Entry::Admitted);
        assert_eq!(asks(&access, &Method::GET, HeaderMap::new(), 1), Entry::Unknown);
    }

    #[test]
    fn wrong_links_keep_nobody_from_a_right_one_or_a_token() {
        let access = access("right");
        let wrong = || access.log_in("wrong", HERE).unwrap_err();
        let tries = (0..1000).take_while(|_| wrong() == Entry::Unknown).count();
        assert!((10..100).contains(&tries), "{tries}");
        let code = access.issue_code();
        assert!(access.log_in(code.expose(), HERE).is_ok());
        let token = headers(&[(AUTHORIZATION, "Bearer right")]);
        assert_eq!(access.guard.wait(HERE, Instant::now()), None);
        assert_eq!(asks(&access, &Method::GET, token, 1), Entry::Admitted);
    }

    #[test]
    fn links_and_sessions_stay_few() {
        let access = access("right");
        let first = access.issue_code();
        for _ in 0..CODES {
            access.issue_code();
        }
        assert!(access.redeem(first.expose()).is_none());
        for _ in 0..SESSIONS + 5 {
            let code = access.issue_code();
            assert!(access.redeem(code.expose()).is_some());
        }
        assert_eq!(access.lock().sessions.len(), SESSIONS);
    }
}
