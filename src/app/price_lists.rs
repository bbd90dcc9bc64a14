//! Public price lists: fetched through their configured upstream, compared with the table in force, written
//! into its file. Owns how a list comes and how the file is replaced; what it means is `pricing`'s.
//!
//! Invariant: a file is replaced whole, by one that has been read back, and only if it is still the one that
//! the change was made from.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::blocking::Client;
use reqwest::redirect;

use super::StartError;
use crate::config::{Config, Upstream};
use crate::pricing::{ListUpdate, OVER_BUILTIN, PriceList, PriceTable, TableError, amended};
use crate::proxy::tls_config;

/// What a list may be long. OpenRouter's is less than a megabyte.
const LONGEST_LIST: u64 = 16 << 20;

/// How long all of a list may take, besides the upstream's own limits.
const WHOLE_LIST: Duration = Duration::from_mins(1);

/// Leads within one host that are followed.
const REDIRECTS: usize = 3;

/// Fetches a list. Blocks, and must not run on a thread that serves.
pub fn fetch_list(list: PriceList, config: &Config) -> Result<Vec<u8>, StartError> {
    let name = list.as_str();
    let of_provider = || config.upstreams.values().find(|upstream| upstream.provider == name);
    let named = config.upstreams.get(name).filter(|upstream| upstream.provider == name);
    let upstream = named.or_else(of_provider).ok_or_else(|| {
        StartError(format!("no upstream of the configuration has the provider `{name}`"))
    })?;
    fetch(list, upstream).map_err(|error| {
        StartError(format!("{name}'s list, upstream `{}`: {error}", upstream.name))
    })
}

fn fetch(list: PriceList, upstream: &Upstream) -> Result<Vec<u8>, String> {
    let base = &upstream.base_url;
    let url = format!(
        "{}://{}{}{}",
        base.scheme.as_str(),
        base.authority,
        base.prefix.trim_end_matches('/'),
        list.path()
    );
    let extra = upstream.extra_roots.as_ref();
    let certificates = extra.map_or(&[][..], |extra| &extra.certificates);
    let tls = tls_config(certificates).map_err(|error| error.to_string())?;
    let timeouts = upstream.timeouts;
    let whole = WHOLE_LIST.min(timeouts.response_head.saturating_add(timeouts.idle));
    let client = Client::builder()
        .tls_backend_preconfigured(rustls::ClientConfig::clone(&tls))
        .no_proxy()
        .connect_timeout(timeouts.connect)
        .timeout(whole)
        .redirect(redirect::Policy::custom(same_host))
        .user_agent(concat!("tokenmeter/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(explain)?;
    let request = client.get(&url).header("accept", "application/json");
    let answer = request.send().map_err(explain)?;
    let status = answer.status();
    if status.is_redirection() {
        return Err(format!("it answered {status}, which leads elsewhere and is not followed"));
    }
    if !status.is_success() {
        return Err(format!("it answered {status}"));
    }
    let mut body = Vec::new();
    let mut limited = answer.take(LONGEST_LIST + 1);
    limited.read_to_end(&mut body).map_err(|error| format!("it broke off: {error}"))?;
    if body.len() as u64 > LONGEST_LIST {
        return Err(format!("it is longer than {} MiB", LONGEST_LIST >> 20));
    }
    Ok(body)
}

/// What a provider's host leads to stays with it, and with its scheme.
fn same_host(attempt: redirect::Attempt<'_>) -> redirect::Action {
    let place = |url: &reqwest::Url| {
        (url.scheme().to_owned(), url.host_str().map(str::to_owned), url.port_or_known_default())
    };
    let is_same =
        attempt.previous().first().is_some_and(|first| place(first) == place(attempt.url()));
    if is_same && attempt.previous().len() <= REDIRECTS { attempt.follow() } else { attempt.stop() }
}

/// The whole chain of an error, without the address.
#[expect(clippy::needless_pass_by_value)] // for `map_err`
fn explain(error: reqwest::Error) -> String {
    let mut text = String::new();
    let mut cause: Option<&dyn std::error::Error> = Some(&error);
    while let Some(one) = cause {
        let said = one.to_string();
        let said = said.split(" for url (").next().unwrap_or(&said);
        text.push_str(if text.is_empty() { "" } else { ": " });
        text.push_str(said);
        cause = one.source();
    }
    text
}

/// Where updates are written to.
#[derive(Clone, Debug)]
pub struct PriceFile {
    pub path: PathBuf,
    /// What stood there when the update was compared; `None` where nothing did.
    pub before: Option<String>,
}

impl PriceFile {
    /// A file with prices, or one that does not exist yet and will hold what differs from the built-in ones.
    pub fn open(path: &Path) -> Result<(PriceFile, PriceTable), TableError> {
        let before = match fs::read_to_string(path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(TableError::unreadable(path, error)),
        };
        let text = before.as_deref().unwrap_or(OVER_BUILTIN);
        let table = PriceTable::of_file(path.to_owned(), text)?;
        Ok((PriceFile { path: path.to_owned(), before }, table))
    }

    /// Writes updates down, if the file is still what they were compared with.
    pub fn write(&self, updates: &[ListUpdate]) -> Result<PriceTable, StartError> {
        let failed =
            |what: String| StartError(format!("{} is not written: {what}", self.path.display()));
        let text = self.before.as_deref().unwrap_or(OVER_BUILTIN);
        let text = amended(text, updates).map_err(failed)?;
        let table = PriceTable::of_file(self.path.clone(), &text)
            .map_err(|error| failed(format!("it would not be right: {error}")))?;
        self.replace(&text).map_err(failed)?;
        Ok(table)
    }

    /// Puts the text in the file's place: beside it, read back, on the disk, renamed.
    fn replace(&self, text: &str) -> Result<(), String> {
        let said = |error: std::io::Error| error.to_string();
        // What a link names is meant, and not the link.
        let target = self.path.canonicalize().unwrap_or_else(|_| self.path.clone());
        let name = target.file_name().ok_or("it has no name")?;
        let draft = target.with_file_name(format!(
            "{}.{}.part",
            name.to_string_lossy(),
            std::process::id()
        ));
        let written = (|| {
            let _ = fs::remove_file(&draft);
            let mut file = File::options().write(true).create_new(true).open(&draft)?;
            file.write_all(text.as_bytes())?;
            if let Ok(known) = fs::metadata(&target) {
                keep_owner(&file, &known)?;
                file.set_permissions(known.permissions())?;
            }
            file.sync_all()?;
            fs::read_to_string(&draft)
        })();
        let done = match written {
            Err(error) => Err(error.to_string()),
            Ok(back) if back != text => Err("it does not read back as it was written".to_owned()),
            Ok(_) if fs::read_to_string(&target).ok() != self.before => {
                Err("it has been changed meanwhile".to_owned())
            }
            Ok(_) => fs::rename(&draft, &target).map_err(said),
        };
        if done.is_err() {
            let _ = fs::remove_file(&draft);
        }
        done?;
        let directory = target.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new("."))).and_then(|it| it.sync_all()).map_err(said)
    }
}

/// Gives a new file the owner and the group of the one whose place it takes: a service that may read the one
/// must be able to read the other, whoever updates the prices.
#[cfg(unix)]
fn keep_owner(file: &File, known: &fs::Metadata) -> std::io::Result<()> {
    use std::os::unix::fs::{MetadataExt, fchown};
    let made = file.metadata()?;
    if (made.uid(), made.gid()) == (known.uid(), known.gid()) {
        return Ok(());
    }
    fchown(file, Some(known.uid()), Some(known.gid())).map_err(|error| {
        let (user, group) = (known.uid(), known.gid());
        let message = format!(
            "the file belongs to user {user} and group {group}, which a new one in its place cannot be given \
             ({error}); do it as that user, or as root"
        );
        std::io::Error::new(error.kind(), message)
    })
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps)] // as where there are owners
fn keep_owner(_: &File, _: &fs::Metadata) -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pricing::{PriceBook, UpdateOptions};
    use crate::units::Timestamp;

    const LIST: &[u8] =
        br#"{"data": [{"id": "a/b", "pricing": {"prompt": "1e-6", "completion": "2e-6"}}]}"#;

    /// One new model.
    fn updates(book: &PriceBook) -> Vec<ListUpdate> {
        let options = UpdateOptions { at: Timestamp::now(), accept_large: true, only: None };
        vec![ListUpdate::of(PriceList::OpenRouter, LIST, book, &options).unwrap()]
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<String> =
            entries.map(|one| one.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_made_where_there_is_none_and_reads_back() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("prices.toml");
        let (file, table) = PriceFile::open(&path).unwrap();
        assert!(file.before.is_none() && !path.exists());
        let written = file.write(&updates(&table.book)).unwrap();
        let (again, table) = PriceFile::open(&path).unwrap();
        assert!(again.before.unwrap().contains("\"a/b\" = { input = 1, output = 2"));
        let difference = table.book.difference(&written.book, Timestamp::now());
        assert!(difference.new.is_empty() && difference.changed.is_empty(), "{difference:?}");
        assert_eq!(names(home.path()), ["prices.toml"]);
    }

    #[test]
    fn a_file_that_somebody_else_has_changed_is_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("prices.toml");
        fs::write(&path, "[prices.x]\nm = { input = 1 }\n").unwrap();
        let (file, table) = PriceFile::open(&path).unwrap();
        fs::write(&path, "[prices.x]\nm = { input = 2 }\n").unwrap();
        let wrong = file.write(&updates(&table.book)).unwrap_err().to_string();
        assert!(wrong.contains("changed meanwhile"), "{wrong}");
        fs::remove_file(&path).unwrap();
        assert!(file.write(&updates(&table.book)).is_err(), "one that is gone is not made again");
        assert!(names(home.path()).is_empty());

        let (file, table) = PriceFile::open(&path).unwrap();
        fs::write(&path, "").unwrap();
        assert!(file.write(&updates(&table.book)).is_err(), "one that came meanwhile is kept");
        assert_eq!(fs::read_to_string(&path).unwrap(), "");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_stays_a_link_and_a_private_file_private() {
        use std::os::unix::fs::PermissionsExt;

        let home = tempfile::tempdir().unwrap();
        let (real, link) = (home.path().join("real.toml"), home.path().join("link.toml"));
        fs::write(&real, "# mine\n").unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink("real.toml", &link).unwrap();
        let (file, table) = PriceFile::open(&link).unwrap();
        file.write(&updates(&table.book)).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        let text = fs::read_to_string(&real).unwrap();
        assert!(text.contains("# mine") && text.contains("a/b"), "{text}");
        assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_is_no_price_table_is_neither_read_nor_written_over() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("prices.toml");
        fs::write(&path, "[prices.x]\nm = { inptu = 1 }\n").unwrap();
        assert!(PriceFile::open(&path).is_err());
        assert!(PriceFile::open(home.path()).is_err(), "a directory");
        assert_eq!(names(home.path()), ["prices.toml"]);
    }
}

#[cfg(all(test, unix))]
mod owners {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

    use super::*;

    /// Root can give files away; for anybody else, another's file is refused.
    #[test]
    fn a_file_stays_with_its_owner_or_is_not_replaced() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("prices.toml");
        let before = "[prices.a]\nm = { input = 1 }\n";
        fs::write(&path, before).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        if chown(&path, Some(12_345), Some(12_346)).is_ok() {
            let (file, _) = PriceFile::open(&path).unwrap();
            file.replace("version = 1\n").unwrap();
            let now = fs::metadata(&path).unwrap();
            assert_eq!((now.uid(), now.gid(), now.mode() & 0o777), (12_345, 12_346, 0o600));
            assert_eq!(fs::read_to_string(&path).unwrap(), "version = 1\n");
        } else {
            let file = File::open(&path).unwrap();
            let error = keep_owner(&file, &fs::metadata("/").unwrap()).unwrap_err().to_string();
            assert!(error.contains("belongs to user 0"), "{error}");
        }
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
    }
}
