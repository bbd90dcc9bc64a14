//! The order of the rooms: a lower one never names a higher one.

use std::fs;
use std::path::{Path, PathBuf};

/// Lowest first. Rooms of one line may not name each other either, unless it is themselves.
const ORDER: [&[&str]; 19] = [
    &["units", "secret", "nearest", "trace"],
    &["fingerprint"],
    &["usage"],
    &["figures"],
    &["framing"],
    &["provider"],
    &["estimate"],
    &["pricing"],
    &["record"],
    &["ledger"],
    &["archive", "report"],
    &["otel", "telemetry"],
    &["meter"],
    &["respond"],
    &["proxy", "admin"],
    &["config"],
    &["app"],
    &["demo"],
    &["cli"],
];

fn files(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|entry| files(&entry)).collect()
}

fn room_of(src: &Path, file: &Path) -> String {
    let first = file.strip_prefix(src).unwrap().components().next().unwrap();
    first.as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned()
}

fn level(room: &str) -> usize {
    ORDER
        .iter()
        .position(|rooms| rooms.contains(&room))
        .unwrap_or_else(|| panic!("room `{room}` has no place in the order"))
}

#[test]
fn a_room_never_names_a_higher_one() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut looked_at = 0;
    for file in files(&src) {
        let room = room_of(&src, &file);
        if room == "lib" || room == "main" {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        for line in code {
            for named in line.split("crate::").skip(1) {
                let named: String =
                    named.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
                if named.is_empty() || named == room {
                    continue;
                }
                looked_at += 1;
                assert!(
                    level(&named) < level(&room),
                    "{}: `{room}` names `{named}`: {line}",
                    file.display()
                );
            }
        }
    }
    assert!(looked_at > 50, "only {looked_at} uses were looked at");
}
