//! Upgraded connections (WebSocket). Owns the switch from HTTP to a pair of byte streams, which
//! happens only after the provider's 101, and the row that the tunnel leaves when it closes.

use bytes::Bytes;
use http::header::HeaderValue;
use http::{Request, Response, StatusCode};
use http_body_util::{Either, Full};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;

use super::body::RequestBody;
use super::exchange::{End, Exchange, Progress};
use super::{Call, ProxyBody, headers, upstream, within};

/// Forwards a request for an upgrade. Refused by the provider, it is a call like any other.
pub(super) async fn upgrade(
    mut request: Request<RequestBody>,
    call: Call<'_>,
    mut exchange: Exchange,
    protocol: HeaderValue,
    progress: Progress,
) -> Response<ProxyBody> {
    let client = hyper::upgrade::on(&mut request);
    headers::restore_upgrade(request.headers_mut(), protocol);
    let sent = upstream::send_upgrade(&call.upstream.target, request, call.path.clone());
    match within(sent, &progress, call.upstream).await {
        Ok(mut answer) if answer.status() == StatusCode::SWITCHING_PROTOCOLS => {
            exchange.answered(&answer);
            let provider = hyper::upgrade::on(&mut answer);
            tokio::task::spawn_local(run(client, provider, exchange));
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
            call.pass_on(answer, exchange, progress)
        }
        Err(failure) => call.failed(&failure, exchange, &progress),
    }
}

/// Copies both ways until both sides are done.
async fn run(client: OnUpgrade, provider: OnUpgrade, mut exchange: Exchange) {
    let result = match (client.await, provider.await) {
        (Ok(client), Ok(provider)) => copy(client, provider).await,
        (Err(error), _) | (_, Err(error)) => Err(std::io::Error::other(error)),
    };
    if let Err(error) = result {
        tracing::debug!(%error, "tunnel broke");
    }
    exchange.close(End::Complete);
}

async fn copy(client: Upgraded, provider: Upgraded) -> std::io::Result<()> {
    copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(provider)).await.map(|_| ())
}
