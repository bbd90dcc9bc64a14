//! A file that appears whole or not at all. Owns the name it has until then, and how it gets its own.
//!
//! Invariant: until `publish` nothing stands under the name that was asked for, or what stood there
//! before; what is not published is removed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// What every SQLite database begins with.
const SQLITE: &[u8] = b"SQLite format 3\0";

#[derive(Debug)]
pub(super) struct Draft {
    target: PathBuf,
    path: PathBuf,
    file: File,
}

impl Draft {
    /// An empty file beside its later place, so that giving it its name moves no bytes.
    pub(super) fn of(target: &Path) -> io::Result<Draft> {
        // What a link names is meant, and not the link.
        let target = target.canonicalize().unwrap_or_else(|_| target.to_owned());
        let Some(name) = target.file_name() else {
            return Err(io::ErrorKind::InvalidFilename.into());
        };
        let mut draft = name.to_owned();
        draft.push(format!(".{}.part", std::process::id()));
        let path = target.with_file_name(draft);
        // One of an earlier process of the same number.
        let _ = fs::remove_file(&path);
        let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        Ok(Draft { target, path, file })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Puts the file in its place, on the disk, over what is there.
    pub(super) fn publish(self) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.path, &self.target)?;
        self.sync_directory()
    }

    /// The same where nothing is in that place, not even since a moment.
    pub(super) fn publish_new(self) -> io::Result<()> {
        self.file.sync_all()?;
        match fs::hard_link(&self.path, &self.target) {
            // The draft's own name goes with the draft.
            Ok(()) => self.sync_directory(),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
            // A file system without links.
            Err(_) if !self.target.exists() => self.publish(),
            Err(_) => Err(io::ErrorKind::AlreadyExists.into()),
        }
    }

    fn sync_directory(&self) -> io::Result<()> {
        let directory = self.target.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Whether a file is a database, somebody's ledger perhaps.
pub(super) fn is_database(path: &Path) -> bool {
    use std::io::Read;
    let mut start = [0; SQLITE.len()];
    File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok() && start == SQLITE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
        entries.map(|name| name.into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let home = tempfile::tempdir().unwrap();
        let target = home.path().join("some.csv");
        let mut draft = Draft::of(&target).unwrap();
        draft.write_all(b"half").unwrap();
        assert!(!target.exists());
        drop(draft);
        assert!(names(home.path()).is_empty());
        let mut draft = Draft::of(&target).unwrap();
        draft.write_all(b"whole").unwrap();
        draft.publish().unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"whole");
        assert_eq!(names(home.path()), ["some.csv"]);
    }

    #[test]
    fn what_came_meanwhile_is_not_replaced() {
        let home = tempfile::tempdir().unwrap();
        let target = home.path().join("copy.db");
        let draft = Draft::of(&target).unwrap();
        fs::write(&target, "theirs").unwrap();
        let error = draft.publish_new().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&target).unwrap(), b"theirs");
        fs::remove_file(&target).unwrap();
        Draft::of(&target).unwrap().publish_new().unwrap();
        assert_eq!(names(home.path()), ["copy.db"]);
    }
}
