//! `tokenmeter check`: reads the configuration as `serve` would and says what it came to.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use serde_json::Value;

use super::serve::ServeArgs;
use super::sheet::Sheet;
use super::{Failure, complain};
use crate::app;
use crate::config::{Config, Upstream};

/// Read the configuration and the prices, say what is wrong, exit
#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    #[command(flatten)]
    pub serve: ServeArgs,
}

/// The summary, if there is nothing wrong.
pub(super) fn run(args: &CheckArgs) -> Result<String, Failure> {
    let config = Config::load(&args.serve.flags());
    let config = config.map_err(|error| Failure::Failed(error.to_string()))?;
    for warning in config.warnings.iter().chain(&app::exposed_files(&config)) {
        complain(&format!("warning: {warning}"));
    }
    let prices = app::check(&config).map_err(|error| Failure::Failed(error.to_string()))?;
    Ok(format!("{}\n\n{} prices\n", summary(&config), prices.book.len()))
}

/// What `serve` would do: where it listens, what it writes, where each upstream goes.
pub fn summary(config: &Config) -> String {
    let mut out = String::new();
    let path = |path: Option<&PathBuf>, absent: &str| {
        path.map_or_else(|| absent.to_owned(), |path| path.display().to_string())
    };
    let facts = [
        ("configuration", path(config.source.as_ref(), "none, all defaults")),
        ("listen", config.listen.to_string()),
        ("admin", config.admin_listen.map_or("at the same".to_owned(), |at| at.to_string())),
        ("database", config.database.display().to_string()),
        ("pricing", path(config.pricing.as_ref(), "built in")),
        ("default upstream", config.default_upstream.clone()),
    ];
    for (name, value) in facts {
        writeln!(out, "{name:<17} {value}").expect("a String takes all");
    }
    out.push('\n');
    out.push_str(&upstreams(config).table());
    out
}

/// Where each upstream goes and whose key is used; never a key.
fn upstreams(config: &Config) -> Sheet {
    let mut sheet = Sheet::new(["upstream", "goes to", "provider", "key"]);
    for upstream in config.upstreams.values() {
        let key = if upstream.api_key.is_some() { "tokenmeter's" } else { "the client's" };
        let Upstream { name, base_url, provider, .. } = upstream;
        let cells = [name.clone(), base_url.to_string(), provider.clone(), key.to_owned()];
        sheet.push(cells.map(Value::String));
    }
    sheet
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Flags;
    use std::collections::BTreeMap;

    #[test]
    fn the_summary_names_every_upstream_and_no_key() {
        let env = [
            ("OPENAI_API_KEY", "sk-canary"),
            ("TOKENMETER_UPSTREAMS_OPENAI_API_KEY_ENV", "OPENAI_API_KEY"),
        ];
        let env: BTreeMap<String, String> =
            env.iter().map(|(name, text)| ((*name).into(), (*text).into())).collect();
        let nothing = |_: &std::path::Path| Err(std::io::ErrorKind::NotFound.into());
        let config = Config::from_sources(&Flags::default(), &env, &nothing).unwrap();
        let summary = summary(&config);
        for upstream in config.upstreams.values() {
            assert!(summary.contains(&upstream.base_url.to_string()), "{summary}");
        }
        assert!(summary.contains("tokenmeter's") && !summary.contains("canary"));
    }
}
