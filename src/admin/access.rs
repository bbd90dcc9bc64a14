//! Who may ask: the admin token, and the sessions of browsers that have logged in with a link. Owns
//! the token's file and everything that opens the door; knows nothing of what is behind it.
//!
//! Invariant: without a token there is no door. A blank token matches nothing, and every comparison
//! takes as long for a near miss as for a wild guess.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::Method;
use http::header::{AUTHORIZATION, COOKIE, HeaderMap};

use crate::secret::Secret;

/// The token's file, beside the database.
pub const TOKEN_FILE: &str = "tokenmeter.token";

/// Holds a browser's session.
pub(super) const SESSION_COOKIE: &str = "tokenmeter_session";

/// How long a browser stays logged in at most. They are all forgotten at a restart.
const SESSION_LIFE: Duration = Duration::from_hours(7 * 24);

/// Login links that wait to be used, and browsers logged in: the oldest give way.
const CODES: usize = 8;
const SESSIONS: usize = 64;

/// Bytes of randomness in a token, code or session.
const RANDOM_BYTES: usize = 32;

/// The admin token and what it has let in.
#[derive(Debug)]
pub struct Access {
    token: Secret,
    doors: Mutex<Doors>,
}

#[derive(Debug, Default)]
struct Doors {
    codes: VecDeque<Secret>,
    sessions: VecDeque<(Secret, Instant)>,
}

impl Access {
    /// The configured token, or the one in the file beside the database, which is made if there is
    /// none. Errors name the file.
    pub fn load(configured: Option<Secret>, database: &Path) -> io::Result<Access> {
        let token = match configured {
            Some(token) => check(token).map_err(|why| {
                io::Error::new(io::ErrorKind::InvalidInput, format!("the admin token {why}"))
            })?,
            None => read_or_make(&database.with_file_name(TOKEN_FILE))?,
        };
        Ok(Access { token, doors: Mutex::default() })
    }

    /// Whether a request may see what is tokenmeter's own.
    pub(super) fn admits(&self, method: &Method, headers: &HeaderMap) -> bool {
        self.has_token(headers) || (method.is_safe() && self.has_session(headers))
    }

    /// A new code that logs in once.
    pub(super) fn issue_code(&self) -> Secret {
        let code = random();
        let mut doors = self.lock();
        doors.codes.push_back(code.clone());
        while doors.codes.len() > CODES {
            doors.codes.pop_front();
        }
        code
    }

    /// Takes a code, which is void from then on, and gives a session for it.
    pub(super) fn redeem(&self, code: &str) -> Option<Secret> {
        let mut doors = self.lock();
        let before = doors.codes.len();
        doors.codes.retain(|known| !known.matches(code.as_bytes()));
        if doors.codes.len() == before {
            return None;
        }
        let session = random();
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
        cookies(headers, SESSION_COOKIE)
            .any(|given| doors.sessions.iter().any(|(known, _)| known.matches(given.as_bytes())))
    }

    fn lock(&self) -> MutexGuard<'_, Doors> {
        self.doors.lock().unwrap_or_else(PoisonError::into_inner)
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

/// Random enough that nobody guesses it, in hexadecimal.
pub(super) fn random() -> Secret {
    let mut bytes = [0; RANDOM_BYTES];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    let hex = |mut text: String, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    };
    Secret::new(bytes.iter().fold(String::new(), hex))
}

fn read_or_make(path: &Path) -> io::Result<Secret> {
    let named = |error: io::Error| {
        io::Error::new(error.kind(), format!("the admin token's file {}: {error}", path.display()))
    };
    match fs::read_to_string(path) {
        Ok(text) => {
            warn_if_open(path);
            let checked = check(Secret::new(text.trim()));
            checked.map_err(|why| {
                let fix = "remove the file to have a new one made";
                named(io::Error::new(io::ErrorKind::InvalidData, format!("it {why}; {fix}")))
            })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(path).map_err(named),
        Err(error) => Err(named(error)),
    }
}

/// Writes a new token beside its place and moves it there whole: a crash leaves no empty file. The
/// ledger's lock on the directory keeps a second tokenmeter from doing the same.
fn make(path: &Path) -> io::Result<Secret> {
    let token = random();
    let draft = PathBuf::from(format!("{}.{}", path.display(), std::process::id()));
    let _ = fs::remove_file(&draft);
    let mut file: File =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    writeln!(file, "{}", token.expose())?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    Ok(token)
}

fn warn_if_open(path: &Path) {
    if fs::metadata(path).is_ok_and(|found| found.mode() & 0o077 != 0) {
        let file = path.display();
        tracing::warn!(%file, "others can read the admin token; chmod 600 it");
    }
}

/// A token must be something that a header can carry.
fn check(token: Secret) -> Result<Secret, &'static str> {
    let text = token.expose();
    if text.trim().is_empty() {
        return Err("is empty");
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("has characters other than visible ASCII");
    }
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn access(token: &str) -> Access {
        Access::load(Some(Secret::new(token)), Path::new("none")).unwrap()
    }

    fn headers(pairs: &[(http::HeaderName, &str)]) -> HeaderMap {
        let value = |text| HeaderValue::from_str(text).unwrap();
        pairs.iter().map(|(name, text)| (name.clone(), value(text))).collect()
    }

    #[test]
    fn a_token_is_made_once_and_for_its_owner_only() {
        let home = tempfile::tempdir().unwrap();
        let database = home.path().join("some.db");
        let first = Access::load(None, &database).unwrap();
        let again = Access::load(None, &database).unwrap();
        assert_eq!(first.token.expose(), again.token.expose());
        assert_eq!(first.token.expose().len(), 2 * RANDOM_BYTES);
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
            let error = Access::load(None, &database).unwrap_err();
            assert!(error.to_string().contains(TOKEN_FILE), "{error}");
        }
        for text in ["", "  ", "a b"] {
            assert!(Access::load(Some(Secret::new(text)), &database).is_err(), "{text:?}");
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
            access.admits(&Method::GET, &headers)
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
    fn a_code_logs_in_once_and_a_session_only_reads() {
        let access = access("right");
        let code = access.issue_code();
        assert!(access.redeem("").is_none() && access.redeem("right").is_none());
        let session = access.redeem(code.expose()).unwrap();
        assert!(access.redeem(code.expose()).is_none());
        assert!(session.expose() != code.expose());
        let cookie = format!("a=b; {SESSION_COOKIE}={}; c", session.expose());
        let headers = headers(&[(COOKIE, &cookie)]);
        assert!(access.admits(&Method::GET, &headers) && access.admits(&Method::HEAD, &headers));
        assert!(!access.admits(&Method::POST, &headers));
        for cookie in ["", "tokenmeter_session=", "tokenmeter_session=right", "tokenmeter_session"]
        {
            let headers = self::headers(&[(COOKIE, cookie)]);
            assert!(!access.admits(&Method::GET, &headers), "{cookie}");
        }
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
