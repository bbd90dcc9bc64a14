//! Upgraded connections (WebSocket). Owns the switch from HTTP to a pair of byte streams, which
//! happens only after the provider's 101, and their copying both ways. What passes is looked at, by
//! [`Watch`], and never touched.
//!
//! A tunnel has no limit on silence: sessions wait for people. It ends when either side's connection
//! does, which TCP's keep-alive or the sides' own pings bring about should one vanish.

mod rows;
mod watch;

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use http::header::{HeaderValue, SEC_WEBSOCKET_EXTENSIONS};
use http::{Request, Response, StatusCode};
use http_body_util::{Either, Full};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;

use super::body::RequestBody;
use super::client::Tenure;
use super::exchange::{Exchange, Progress};
use super::{Call, ProxyBody, headers, upstream, within};
use crate::framing::Extensions;
use rows::Rows;
use watch::{Side, Watch, Watched};

/// Forwards a request for an upgrade. Refused by the provider, it is a call like any other.
pub(super) async fn upgrade(
    mut request: Request<RequestBody>,
    call: Call<'_>,
    mut exchange: Exchange,
    protocol: HeaderValue,
    progress: Progress,
) -> Response<ProxyBody> {
    let client = hyper::upgrade::on(&mut request);
    let tenure = request.extensions_mut().remove::<Tenure>();
    headers::restore_upgrade(request.headers_mut(), protocol);
    let sent = upstream::send_upgrade(&call.upstream.target, request, call.path.clone());
    match within(sent, &progress, call.upstream).await {
        Ok(mut answer) if answer.status() == StatusCode::SWITCHING_PROTOCOLS => {
            exchange.answered(&answer);
            let provider = hyper::upgrade::on(&mut answer);
            if let Some(opened) = exchange.into_tunnel() {
                let agreed = answer.headers().get_all(SEC_WEBSOCKET_EXTENSIONS);
                // What is no text names an extension that is not known.
                let agreed = agreed.iter().map(|value| value.to_str().unwrap_or("?"));
                let watch = Watch::new(Extensions::of_headers(agreed), Rows::new(opened));
                tokio::task::spawn_local(async move {
                    run(client, provider, watch).await;
                    drop(tenure);
                });
            }
            let (mut head, _) = answer.into_parts();
            let protocol = headers::upgrade_of(&head.headers);
            headers::remove_hop_by_hop(&mut head.headers);
            if let Some(protocol) = protocol {
                headers::restore_upgrade(&mut head.headers, protocol);
            }
            Response::from_parts(head, Either::Left(Full::new(Bytes::new())))
        }
        Ok(answer) => {
            exchange.answered(&answer);
            call.pass_on(answer, exchange, progress).await
        }
        Err(failure) => call.failed(&failure, exchange, &progress).await,
    }
}

/// Copies both ways until both sides are done.
async fn run(client: OnUpgrade, provider: OnUpgrade, watch: Watch) {
    let watch = Rc::new(RefCell::new(watch));
    match (client.await, provider.await) {
        (Ok(client), Ok(provider)) => copy(client, provider, &watch).await,
        (Err(error), _) => not_opened(&watch, Side::Client, &error),
        (_, Err(error)) => not_opened(&watch, Side::Provider, &error),
    }
    watch.borrow_mut().finish();
}

async fn copy(client: Upgraded, provider: Upgraded, watch: &Rc<RefCell<Watch>>) {
    let mut client = Watched::new(TokioIo::new(client), Side::Client, Rc::clone(watch));
    let mut provider = Watched::new(TokioIo::new(provider), Side::Provider, Rc::clone(watch));
    if let Err(error) = copy_bidirectional(&mut client, &mut provider).await {
        tracing::debug!(%error, "tunnel broke");
    }
}

fn not_opened(watch: &RefCell<Watch>, side: Side, error: &hyper::Error) {
    tracing::debug!(%error, ?side, "no tunnel");
    watch.borrow_mut().broke(side);
}
