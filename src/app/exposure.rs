//! Which of tokenmeter's files others on the machine can read or change: a line each, which says what would close
//! it. Owns the looking; changes nothing.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::admin::TOKEN_FILE;
use crate::config::Config;
use crate::fingerprint::SECRET_FILE;

/// Bits of a file's mode: others may write, others may read, others may reach into a directory.
const WRITE: u32 = 0o002;
const READ: u32 = 0o004;
const REACH: u32 = 0o001;
/// The same for its group.
const GROUP_READ: u32 = 0o040;

/// What others can do with the files of a configuration, as they are now.
pub fn exposed_files(config: &Config) -> Vec<String> {
    let beside = |name: &str| config.database.with_file_name(name);
    let secrets =
        config.secret_files.iter().map(|file| (file.clone(), READ, "what may be a secret in it"));
    let keys = config.tls.iter().map(|tls| (tls.files.key.clone(), READ, "the key of TLS"));
    let files = [
        (config.source.clone(), WRITE, "the configuration"),
        (
            config.admin_token.is_none().then(|| beside(TOKEN_FILE)),
            READ | GROUP_READ,
            "the admin token",
        ),
        (Some(beside(SECRET_FILE)), READ | GROUP_READ, "the secret of fingerprints"),
        (Some(config.database.clone()), READ | WRITE, "the ledger"),
        (Some(beside("journal")), READ | WRITE, "the journal"),
    ];
    let files = files.into_iter().filter_map(|(file, bits, what)| Some((file?, bits, what)));
    let kept = kept_ledgers(&config.database).map(|file| (file, READ, "a ledger of before"));
    files
        .chain(kept)
        .chain(secrets)
        .chain(keys)
        .filter_map(|(file, bits, what)| doubt(&file, bits, what))
        .collect()
}

/// What upgrades have left beside a ledger.
fn kept_ledgers(database: &Path) -> impl Iterator<Item = PathBuf> {
    let begins = database.file_name().map(|name| format!("{}.schema-", name.display()));
    let beside = fs::read_dir(directory_of(database)).into_iter().flatten().filter_map(Result::ok);
    let is_kept = move |name: &str| begins.as_ref().is_some_and(|begins| name.starts_with(begins));
    beside
        .filter(move |file| file.file_name().to_str().is_some_and(&is_kept))
        .map(|file| file.path())
}

fn directory_of(file: &Path) -> PathBuf {
    let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    directory.map_or_else(|| PathBuf::from("."), Path::to_owned)
}

fn doubt(file: &Path, bits: u32, what: &str) -> Option<String> {
    let mode = fs::metadata(file).ok()?.mode() & bits;
    if mode == 0 || (mode & GROUP_READ == 0 && !is_reached_by_others(file)) {
        return None;
    }
    let can = if mode & WRITE == 0 { "read" } else { "change" };
    let to = if fs::metadata(file).ok()?.is_dir() { "700" } else { "600" };
    let file = file.display();
    Some(format!("{file}: others on this machine can {can} {what}; chmod {to} {file} closes that"))
}

/// False where the directory keeps others out.
fn is_reached_by_others(file: &Path) -> bool {
    fs::metadata(directory_of(file)).is_ok_and(|found| found.mode() & REACH != 0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::config::Flags;

    #[test]
    fn files_that_others_can_read_are_told_with_what_closes_them() {
        let home = tempfile::tempdir().unwrap();
        let path = |name: &str| home.path().join(name);
        let set = |name: &str, mode| {
            fs::set_permissions(path(name), fs::Permissions::from_mode(mode)).unwrap();
        };
        let database = path("some.db");
        let settings = format!(
            "database = {:?}\notlp.headers = {{ authorization = \"Bearer b\" }}\n",
            database.display().to_string()
        );
        fs::write(path("c.toml"), settings).unwrap();
        let kept = "some.db.schema-4";
        for name in ["some.db", kept, TOKEN_FILE, SECRET_FILE] {
            fs::write(path(name), "").unwrap();
        }
        fs::create_dir(path("journal")).unwrap();
        let flags = Flags { config: Some(path("c.toml")), ..Flags::default() };
        let read = |file: &Path| fs::read(file);
        let config = Config::from_sources(&flags, &BTreeMap::new(), &read).unwrap();
        let elsewhere = BTreeMap::from([
            ("TOKENMETER_ADMIN_TOKEN_FILE".to_owned(), path("token").display().to_string()),
            ("TOKENMETER_OTLP_HEADERS".to_owned(), "authorization=Bearer b".to_owned()),
        ]);
        fs::write(path("token"), "0123456789abcdef").unwrap();
        set("token", 0o644);
        let from_file = Config::from_sources(&flags, &elsewhere, &read).unwrap();
        let names = ["c.toml", "some.db", kept, TOKEN_FILE, SECRET_FILE, "journal"];
        let close =
            |mode| names.map(|name| set(name, if name == "journal" { 0o700 } else { mode }));
        set("", 0o755);
        close(0o600);
        assert_eq!(exposed_files(&config), Vec::<String>::new());
        for (name, mode, can) in [
            ("c.toml", 0o644, "read what may be a secret in it; chmod 600"),
            ("c.toml", 0o602, "change the configuration"),
            ("some.db", 0o644, "read the ledger"),
            (kept, 0o644, "read a ledger of before"),
            (TOKEN_FILE, 0o640, "read the admin token"),
            (SECRET_FILE, 0o604, "read the secret"),
            ("journal", 0o755, "read the journal; chmod 700"),
        ] {
            close(0o600);
            set(name, mode);
            let [told] = <[String; 1]>::try_from(exposed_files(&config)).unwrap();
            assert!(told.contains(can) && told.contains(name), "{told}");
        }
        close(0o600);
        set("c.toml", 0o644);
        let [told] = <[String; 1]>::try_from(exposed_files(&from_file)).unwrap();
        assert!(
            told.contains("token: others on this machine can read what may be a secret in it"),
            "{told}"
        );
        close(0o600);
        // A directory that keeps others out is enough; but not for what the group can read.
        set("", 0o700);
        assert_eq!(exposed_files(&config), Vec::<String>::new());
        set(TOKEN_FILE, 0o640);
        assert_eq!(exposed_files(&config).len(), 1);
    }
}
