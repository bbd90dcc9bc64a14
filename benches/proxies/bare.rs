//! The usual way to build a pass-through: hyper's server, hyper-util's pooled client, one thread, no
//! more. Tells how much of a difference to nginx is HTTP, and how much is metering.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::{BodyExt, combinators::BoxBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::provider::{listen, runtime};

pub(crate) fn run(upstream: &str) {
    let upstream = upstream.to_owned();
    runtime().block_on(async move {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client: Client<_, BoxBody<Bytes, hyper::Error>> =
            Client::builder(TokioExecutor::new()).build(connector);
        let listener = listen();
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            let _ = stream.set_nodelay(true);
            let (client, upstream) = (client.clone(), upstream.clone());
            let service = service_fn(move |request: Request<Incoming>| {
                let (client, upstream) = (client.clone(), upstream.clone());
                async move {
                    let (mut head, body) = request.into_parts();
                    let path = head.uri.path();
                    head.uri = format!("http://{upstream}{path}").parse::<Uri>().expect("a URI");
                    let answer = client.request(Request::from_parts(head, body.boxed())).await;
                    Ok::<_, Infallible>(answer.expect("the provider answers"))
                }
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service),
            );
        }
    });
}
