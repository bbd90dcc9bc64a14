//! Configurations: a file of any content is taken or refused in words.

#![no_main]

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use tokenmeter::config::{Config, Flags};

fuzz_target!(|data: &[u8]| {
    let files = |path: &Path| match path.file_name().and_then(|name| name.to_str()) {
        Some("tokenmeter.toml") => Ok(data.to_vec()),
        _ => Err(io::ErrorKind::NotFound.into()),
    };
    let flags = Flags { config: Some("tokenmeter.toml".into()), ..Flags::default() };
    match Config::from_sources(&flags, &BTreeMap::new(), &files) {
        Ok(config) => drop(format!("{config:?}")),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
