//! `tokenmeter serve`: the flags that go before the environment and the file.

use std::path::PathBuf;

use clap::Args;

use crate::config::Flags;

/// Run the proxy
#[derive(Args, Clone, Debug)]
pub struct ServeArgs {
    /// Configuration file [default: tokenmeter.toml, if there is one]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// IP address and port to listen on [default: 127.0.0.1:4100]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,

    /// The ledger's database file [default: tokenmeter.db]
    #[arg(long, value_name = "FILE")]
    pub database: Option<String>,

    /// Price table [default: the one built in]
    #[arg(long, value_name = "FILE")]
    pub pricing: Option<String>,
}

impl ServeArgs {
    pub fn flags(&self) -> Flags {
        Flags {
            config: self.config.clone(),
            listen: self.listen.clone(),
            database: self.database.clone(),
            pricing: self.pricing.clone(),
        }
    }
}
