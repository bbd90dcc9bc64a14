//! How much room a disk has left. Owns the one question to the platform.

use std::path::Path;

/// Bytes that may still be written there; nothing where the platform does not tell.
#[cfg(unix)]
pub(super) fn free(path: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(path).ok()?;
    disk.f_bavail.checked_mul(disk.f_frsize)
}

#[cfg(not(unix))]
pub(super) fn free(_: &Path) -> Option<u64> {
    None
}
