//! Keys and tokens that must not be seen. Owns the one way to reach their text, and how those of tokenmeter's
//! own are made and kept in a file; refuses to print them.

use std::fmt::{self, Write as _};
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use subtle::ConstantTimeEq;

/// Bytes of randomness in what is made here.
const RANDOM_BYTES: usize = 32;

/// A key or token. `Debug` shows nothing of it; [`Secret::expose`] is the only way to its text.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Random enough that nobody guesses it, in hexadecimal.
    pub fn random() -> Secret {
        let mut bytes = [0; RANDOM_BYTES];
        getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
        let hex = |mut text: String, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        };
        Secret::new(bytes.iter().fold(String::new(), hex))
    }

    /// The one in a file, which is made if there is none, for its owner's eyes only. Errors name the file.
    pub fn read_or_make(path: &Path) -> io::Result<Secret> {
        let secret = match read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => make(path),
            read => read,
        };
        secret.map_err(|error| {
            io::Error::new(error.kind(), format!("the file {}: {error}", path.display()))
        })
    }

    /// The same, if it is something that a header can carry.
    pub fn checked(self) -> Result<Secret, &'static str> {
        let text = self.expose();
        if text.trim().is_empty() {
            return Err("is empty");
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("has characters other than visible ASCII");
        }
        Ok(self)
    }

    /// Compares in a time that depends on the lengths only.
    pub fn matches(&self, other: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(other).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

fn read(path: &Path) -> io::Result<Secret> {
    Secret::new(fs::read_to_string(path)?.trim()).checked().map_err(|why| {
        let fix = "remove the file to have a new one made";
        io::Error::new(io::ErrorKind::InvalidData, format!("it {why}; {fix}"))
    })
}

/// Writes a new one beside its place and moves it there whole: a crash leaves no empty file. Where two do so at
/// once, the first one's counts for both.
fn make(path: &Path) -> io::Result<Secret> {
    let made = Secret::random();
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let mut draft = tempfile::NamedTempFile::new_in(directory.unwrap_or(Path::new(".")))?;
    writeln!(draft, "{}", made.expose())?;
    draft.as_file().sync_all()?;
    match draft.persist_noclobber(path) {
        Ok(_) => {}
        Err(failed) if failed.error.kind() == io::ErrorKind::AlreadyExists => return read(path),
        // Not every file system has links.
        Err(failed) => drop(failed.file.persist(path)?),
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_is_blind() {
        assert_eq!(format!("{:?}", Secret::new("sk-canary")), "Secret(…)");
    }

    #[test]
    fn only_the_same_bytes_match() {
        let secret = Secret::new("abc");
        assert!(secret.matches(b"abc"));
        assert!(!secret.matches(b"abd"));
        assert!(!secret.matches(b"ab"));
    }
}
