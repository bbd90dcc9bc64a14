//! The certificate that clients are shown: read at the start, and again when its files change or SIGHUP asks
//! for it. Owns when that is; broken files never replace a pair that works.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;

use super::changes::Changes;
use crate::config::{Tls, TlsFiles};

/// What the next handshake goes by.
#[derive(Debug)]
pub(super) struct Certificates {
    files: TlsFiles,
    server: ArcSwap<ServerConfig>,
}

impl Certificates {
    pub(super) fn new(tls: &Tls) -> Certificates {
        let server = ArcSwap::new(Arc::clone(&tls.server));
        Certificates { files: tls.files.clone(), server }
    }

    pub(super) fn current(&self) -> Arc<ServerConfig> {
        self.server.load_full()
    }

    /// Puts what the files hold in force; false if they are broken.
    fn reload(&self) -> bool {
        match self.files.load() {
            Ok(server) => {
                self.server.store(server);
                true
            }
            Err(error) => {
                tracing::error!(%error, "the old certificate stays in force");
                false
            }
        }
    }
}

/// Puts a changed certificate in force. Connections that are open keep theirs. Never resolves.
pub(super) async fn reload_certificates(certificates: Option<Arc<Certificates>>) {
    let Some(certificates) = certificates else { return std::future::pending().await };
    let mut changes = Changes::of(certificates.files.all());
    // They were read before the ledger was opened, which may have taken long.
    certificates.reload();
    loop {
        changes.next().await;
        if certificates.reload() {
            tracing::info!(file = %certificates.files.certificate.display(), "certificate read again");
        }
    }
}
