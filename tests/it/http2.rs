//! HTTP/2 on either side of the proxy, and the peers that speak it.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Request, Response, StatusCode, Version, request};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc as tasks, oneshot};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use super::rig::{PATIENCE, Provider, Proxy, Settings, field};

const MAX_HEAD: u32 = 1 << 20;

/// A runtime on a thread of its own, so that a test can wait for its tasks and for raw sockets.
pub(crate) struct Background {
    handle: Handle,
    over: Arc<Notify>,
}

impl Background {
    pub(crate) fn new() -> Background {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let handle = runtime.handle().clone();
        let over = Arc::new(Notify::new());
        let ends = Arc::clone(&over);
        thread::spawn(move || runtime.block_on(ends.notified()));
        Background { handle, over }
    }

    /// Waits for something that must not take long.
    pub(crate) fn wait<F: Future>(&self, future: F) -> F::Output {
        let within = async { tokio::time::timeout(PATIENCE, future).await };
        self.handle.block_on(within).expect("it hangs")
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.over.notify_one();
    }
}

/// A body whose frames the test sends one by one. Dropped without `end`, it breaks off.
pub(crate) struct Fed(Option<tasks::UnboundedReceiver<Option<Frame<Bytes>>>>);

#[derive(Clone)]
pub(crate) struct Feed(tasks::UnboundedSender<Option<Frame<Bytes>>>);

pub(crate) fn fed() -> (Feed, Fed) {
    let (sender, receiver) = tasks::unbounded_channel();
    (Feed(sender), Fed(Some(receiver)))
}

impl Feed {
    pub(crate) fn data(&self, text: &str) -> &Feed {
        self.0.send(Some(Frame::data(Bytes::from(text.to_owned())))).unwrap();
        self
    }

    fn trailer(&self, name: &str, value: &str) {
        let name = name.parse::<HeaderName>().unwrap();
        let trailers = HeaderMap::from_iter([(name, value.parse().unwrap())]);
        self.0.send(Some(Frame::trailers(trailers))).unwrap();
    }

    pub(crate) fn end(&self) {
        self.0.send(None).unwrap();
    }
}

impl Body for Fed {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        let Some(receiver) = &mut self.get_mut().0 else { return Poll::Ready(None) };
        match std::task::ready!(receiver.poll_recv(cx)) {
            Some(frame) => Poll::Ready(frame.map(Ok)),
            None => Poll::Ready(Some(Err(std::io::ErrorKind::BrokenPipe.into()))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }
}

/// A client that speaks HTTP/2 by prior knowledge.
struct Client {
    background: Background,
    sender: SendRequest<Fed>,
    closed: Receiver<()>,
}

impl Client {
    fn new(proxy: &Proxy) -> Client {
        let background = Background::new();
        let (ended, closed) = mpsc::channel();
        let address = proxy.address;
        let sender = background.wait(async move {
            let stream = TcpStream::connect(address).await.unwrap();
            let (sender, connection) =
                hyper::client::conn::http2::Builder::new(TokioExecutor::new())
                    .max_header_list_size(MAX_HEAD)
                    .handshake(TokioIo::new(stream))
                    .await
                    .unwrap();
            tokio::spawn(async move {
                let _ = connection.await;
                let _ = ended.send(());
            });
            sender
        });
        Client { background, sender, closed }
    }

    /// Sends a request; its answer comes when it is waited for.
    fn send(
        &self,
        request: request::Builder,
        body: Fed,
    ) -> tokio::task::JoinHandle<hyper::Result<Response<Incoming>>> {
        let mut sender = self.sender.clone();
        let request = request.body(body).unwrap();
        self.background.handle.spawn(async move {
            sender.ready().await?;
            sender.send_request(request).await
        })
    }

    fn wait<T>(&self, task: tokio::task::JoinHandle<T>) -> T {
        self.background.wait(task).unwrap()
    }

    fn get(&self, path: &str) -> tokio::task::JoinHandle<hyper::Result<Response<Incoming>>> {
        self.send(Request::get(format!("http://proxy.example{path}")), Fed(None))
    }

    fn expect_closed(&self) {
        self.closed.recv_timeout(PATIENCE).unwrap();
    }
}

/// The next frame's bytes.
pub(crate) fn data(background: &Background, body: &mut Incoming) -> String {
    let frame = background.wait(body.frame()).expect("a frame").unwrap();
    String::from_utf8(frame.into_data().expect("data").to_vec()).unwrap()
}

/// A provider that speaks HTTP/2, or what TLS negotiates. Requests wait until the test answers them.
pub(crate) struct Server {
    pub(crate) background: Background,
    pub(crate) address: SocketAddr,
    arrived: Receiver<Arrived>,
    cut: Arc<Notify>,
}

/// A request that waits for its answer.
pub(crate) struct Arrived {
    pub(crate) head: request::Parts,
    pub(crate) body: Incoming,
    pub(crate) answer: oneshot::Sender<Response<Fed>>,
}

impl Arrived {
    pub(crate) fn answer(self, status: u16) -> Feed {
        let (feed, body) = fed();
        let mut answer = Response::new(body);
        *answer.status_mut() = StatusCode::from_u16(status).unwrap();
        assert!(self.answer.send(answer).is_ok(), "nobody waits for the answer");
        feed
    }
}

impl Arrived {
    /// Answers 200 with a stream of events.
    pub(crate) fn answer_events(self) -> Feed {
        let (feed, body) = fed();
        let answer = Response::builder().header("content-type", "text/event-stream").body(body);
        assert!(self.answer.send(answer.unwrap()).is_ok(), "nobody waits for the answer");
        feed
    }

    /// Answers 204.
    fn answer_without_body(self) {
        let answer = Response::builder().status(204).body(Fed(None)).unwrap();
        assert!(self.answer.send(answer).is_ok(), "nobody waits for the answer");
    }
}

impl Server {
    pub(crate) fn new(tls: Option<Arc<ServerConfig>>, max_streams: u32) -> Server {
        let background = Background::new();
        let (sender, arrived) = mpsc::channel();
        let cut = Arc::new(Notify::new());
        let cuts = Arc::clone(&cut);
        let listener = background.wait(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = tls.map(TlsAcceptor::from);
        background.handle.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (sender, acceptor) = (sender.clone(), acceptor.clone());
                let cut = Arc::clone(&cuts);
                tokio::spawn(async move {
                    let Some(acceptor) = acceptor else {
                        return serve(stream, true, max_streams, sender, &cut).await;
                    };
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                    serve(stream, is_http2, max_streams, sender, &cut).await;
                });
            }
        });
        Server { background, address, arrived, cut }
    }

    pub(crate) fn next(&self) -> Arrived {
        self.arrived.recv_timeout(PATIENCE).expect("a request")
    }

    /// Cuts all connections.
    fn cut(&self) {
        self.cut.notify_waiters();
    }

    fn settings(&self) -> Settings {
        let url = format!("http://{}", self.address);
        Settings::default().upstream("up", url, "http2 = \"always\"")
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    is_http2: bool,
    max_streams: u32,
    sender: mpsc::Sender<Arrived>,
    cut: &Notify,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let sender = sender.clone();
        async move {
            let (head, body) = request.into_parts();
            let (answer, answered) = oneshot::channel();
            let _ = sender.send(Arrived { head, body, answer });
            answered.await
        }
    });
    let io = TokioIo::new(stream);
    if is_http2 {
        let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        builder.max_concurrent_streams(max_streams).max_header_list_size(MAX_HEAD);
        tokio::select! {
            _ = builder.serve_connection(io, service) => {}
            () = cut.notified() => {}
        }
    } else {
        let builder = hyper::server::conn::http1::Builder::new();
        let _ = builder.serve_connection(io, service).await;
    }
}

/// Nobody asks for it when the announced length has gone up, and still the request was sent whole.
#[test]
fn the_end_of_a_body_of_known_length_may_come_as_a_frame_of_its_own() {
    let provider = Provider::new();
    let proxy = Proxy::to(&provider);
    let client = Client::new(&proxy);
    let (feed, body) = fed();
    let asked = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"Hi"}]}"#;
    let request = Request::post("http://proxy.example/v1/chat/completions")
        .header("content-type", "application/json")
        .header("content-length", asked.len());
    let answer = client.send(request, body);
    let mut upstream = provider.accept();
    upstream.head();
    feed.data(asked);
    upstream.expect(asked);
    let said =
        r#"{"model":"gpt-4o","choices":[{"message":{"content":"Yes."},"finish_reason":"stop"}]}"#;
    upstream.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{said}", said.len()));
    let answer = client.wait(answer).unwrap();
    assert_eq!(data(&client.background, &mut answer.into_body()), said);
    let row = &proxy.wait_for_rows(1)[0];
    assert_eq!(row["usage_source"], "estimated");
    assert!(row["input_tokens"].is_u64(), "{row}");
    // Its end has not come to this day.
    drop(feed);
}

#[test]
fn a_client_s_frames_pass_one_by_one_both_ways() {
    let provider = Provider::new();
    let proxy = Proxy::to(&provider);
    let client = Client::new(&proxy);
    let (feed, body) = fed();
    let request = Request::post("http://proxy.example/v1/x?y=%2F")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .header("x-twice", "1")
        .header("x-twice", "2")
        .header("x-user", "u");
    let answer = client.send(request, body);
    let mut upstream = provider.accept();
    let up = upstream.head();
    assert!(up.starts_with("POST /v1/x?y=%2F HTTP/1.1\r\n"), "{up}");
    assert_eq!(field(&up, "host").unwrap(), provider.authority());
    assert_eq!(field(&up, "cookie"), Some("a=1; b=2"));
    assert!(up.contains("x-twice: 1\r\nx-twice: 2\r\n"), "{up}");
    assert_eq!(up.split("\r\n").count(), 8, "{up}");
    feed.data("one");
    upstream.expect("3\r\none\r\n");
    upstream.send("HTTP/1.1 299 Hm\r\nConnection: x-hop\r\nX-Hop: 1\r\nTrailer: x-sum\r\nTransfer-Encoding: chunked\r\n\r\n");
    let answer = client.wait(answer).unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (299, Version::HTTP_2));
    assert!(answer.headers().contains_key("x-tokenmeter-id"));
    assert!(!answer.headers().contains_key("x-hop") && !answer.headers().contains_key("date"));
    let mut body = answer.into_body();
    upstream.send("1\r\na\r\n");
    assert_eq!(data(&client.background, &mut body), "a");
    feed.data("two").end();
    upstream.expect("3\r\ntwo\r\n0\r\n\r\n");
    upstream.send("1\r\nb\r\n");
    assert_eq!(data(&client.background, &mut body), "b");
    upstream.send("0\r\nx-sum: 9\r\n\r\n");
    let last = client.background.wait(body.frame()).unwrap().unwrap();
    assert_eq!(last.trailers_ref().unwrap()["x-sum"], "9");
    assert_eq!(proxy.wait_for_rows(1)[0]["user"], "u");
}

#[test]
fn many_calls_share_a_client_s_connection() {
    let provider = Provider::new();
    let proxy = Proxy::to(&provider);
    let client = Client::new(&proxy);
    let answers: Vec<_> = (0..150).map(|number| client.get(&format!("/{number}"))).collect();
    let mut upstreams: Vec<_> = answers.iter().map(|_| provider.accept()).collect();
    for upstream in upstreams.iter_mut().rev() {
        let number = upstream.head()[5..].split(' ').next().unwrap().to_owned();
        let length = number.len();
        upstream.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{number}"));
    }
    for (number, answer) in answers.into_iter().enumerate() {
        let mut answer = client.wait(answer).unwrap();
        assert_eq!(data(&client.background, answer.body_mut()), number.to_string());
    }
    proxy.wait_for_rows(150);
}

#[test]
fn calls_that_share_a_connection_are_limited_as_others_are() {
    let provider = Provider::new();
    let limits = "limits.calls = 2\nlimits.queue = 1\nlimits.queue_wait = \"60s\"";
    let proxy = Settings::to(provider.url()).with(limits).start();
    let client = Client::new(&proxy);
    let first: Vec<_> = ["/1", "/2"].iter().map(|path| client.get(path)).collect();
    let mut upstreams: Vec<_> = first.iter().map(|_| provider.accept()).collect();
    let others: Vec<_> = (0..3).map(|_| client.get("/more")).collect();
    for upstream in &mut upstreams {
        upstream.head();
    }
    // One waits, two are sent away; which, is not told.
    let mut shed = 0;
    let mut others = others.into_iter().collect::<std::collections::VecDeque<_>>();
    while shed < 2 {
        let other = others.pop_front().unwrap();
        if other.is_finished() {
            let answer = client.wait(other).unwrap();
            assert_eq!(answer.status(), 503);
            assert_eq!(answer.headers()["x-tokenmeter-error"], "overloaded");
            assert_eq!(answer.headers().get("connection"), None);
            shed += 1;
        } else {
            others.push_back(other);
            thread::park_timeout(Duration::from_millis(1));
        }
    }
    assert!(provider.is_untouched());
    for (upstream, answer) in upstreams.iter_mut().zip(first) {
        upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(client.wait(answer).unwrap().status(), 200);
    }
    let last = others.pop_front().unwrap();
    let mut answering = None;
    super::rig::eventually("its turn has come", || {
        answering = upstreams.iter_mut().position(|upstream| !upstream.is_silent());
        answering.is_some()
    });
    let upstream = &mut upstreams[answering.unwrap()];
    assert!(upstream.head().starts_with("GET /more "));
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(client.wait(last).unwrap().status(), 200);
    proxy.wait_for_rows(3);
}

#[test]
fn a_reset_by_the_client_cancels_the_call() {
    let provider = Provider::new();
    let proxy = Proxy::to(&provider);
    let client = Client::new(&proxy);
    let answer = client.get("/before");
    let mut upstream = provider.accept();
    upstream.head();
    answer.abort();
    upstream.expect_closed();

    let answer = client.get("/within");
    let mut upstream = provider.accept();
    upstream.head();
    upstream.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n");
    let mut answer = client.wait(answer).unwrap();
    data(&client.background, answer.body_mut());
    drop(answer);
    upstream.expect_closed();
    for row in proxy.wait_for_rows(2) {
        assert_eq!(row["outcome"], "client_closed");
    }
}

#[test]
fn a_cut_answer_is_cut_for_an_http2_client_too() {
    let provider = Provider::new();
    let proxy = Proxy::to(&provider);
    let client = Client::new(&proxy);
    let answer = client.get("/");
    let mut upstream = provider.accept();
    upstream.head();
    upstream.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n");
    let mut answer = client.wait(answer).unwrap();
    data(&client.background, answer.body_mut());
    drop(upstream);
    assert!(client.background.wait(answer.frame()).unwrap().is_err());
}

#[test]
fn a_large_head_passes_over_http2_as_over_http1() {
    let server = Server::new(None, 200);
    let proxy = server.settings().start();
    let client = Client::new(&proxy);
    let long = "a".repeat(40_000);
    let answer = client.send(Request::get("http://p/").header("x-long", &long), Fed(None));
    let arrived = server.next();
    assert_eq!(arrived.head.headers["x-long"].len(), 40_000);
    let answered = Response::builder().header("x-long", &long).body(Fed(None)).unwrap();
    assert!(arrived.answer.send(answered).is_ok());
    assert_eq!(client.wait(answer).unwrap().headers()["x-long"].len(), 40_000);
}

#[test]
fn an_idle_http2_connection_is_closed_and_a_busy_one_is_not() {
    let provider = Provider::new();
    let times = "timeouts.request_head = \"20ms\"\ntimeouts.keep_alive = \"200ms\"";
    let proxy = Settings::to(provider.url()).with(times).start();
    let client = Client::new(&proxy);
    let answer = client.get("/");
    let mut upstream = provider.accept();
    upstream.head();
    proxy.connect().expect_closed();
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1");
    let mut answer = client.wait(answer).unwrap();
    assert_eq!(data(&client.background, answer.body_mut()), "1");
    client.expect_closed();
}

#[test]
fn a_stop_lets_an_http2_stream_finish_or_cuts_it_after_the_grace() {
    let provider = Provider::new();
    for grace in ["30s", "100ms"] {
        let grace_key = format!("shutdown_grace = \"{grace}\"");
        let mut proxy = Settings::to(provider.url()).with(&grace_key).start();
        let client = Client::new(&proxy);
        let answer = client.get("/");
        let mut upstream = provider.accept();
        upstream.head();
        upstream.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n");
        let mut answer = client.wait(answer).unwrap();
        assert_eq!(data(&client.background, answer.body_mut()), "a");
        proxy.stop();
        if grace == "30s" {
            upstream.send("1\r\nb\r\n0\r\n\r\n");
            assert_eq!(data(&client.background, answer.body_mut()), "b");
            let rest = client.background.wait(answer.collect()).unwrap();
            assert_eq!(rest.to_bytes(), "");
        } else {
            assert!(client.background.wait(answer.frame()).unwrap().is_err());
            upstream.expect_closed();
        }
        client.expect_closed();
        proxy.join();
        let outcome = if grace == "30s" { "completed" } else { "interrupted" };
        assert_eq!(proxy.rows()[0]["outcome"], outcome);
    }
}

#[test]
fn a_provider_may_speak_http2_by_prior_knowledge() {
    let server = Server::new(None, 200);
    let proxy = server.settings().start();
    let mut client = proxy.connect();
    client.send(
        "PROPFIND /v1//x?y= HTTP/1.1\r\nHost: c\r\nConnection: TE, x-hop\r\nTE: trailers\r\nX-Hop: 1\r\n\
         Keep-Alive: 5\r\nTrailer: x-up\r\nX-Twice: 1\r\nX-Twice: 2\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n",
    );
    let mut arrived = server.next();
    let head = &arrived.head;
    assert_eq!((head.method.as_str(), head.version), ("PROPFIND", Version::HTTP_2));
    assert_eq!(head.uri.to_string(), format!("http://{}/v1//x?y=", server.address));
    let mut names: Vec<_> = head.headers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["te", "trailer", "x-twice", "x-twice"]);
    let background = &server.background;
    assert_eq!(data(background, &mut arrived.body), "one");
    client.send("3\r\ntwo\r\n0\r\nx-up: 1\r\n\r\n");
    assert_eq!(data(background, &mut arrived.body), "two");
    let last = background.wait(arrived.body.frame()).unwrap().unwrap();
    assert_eq!(last.trailers_ref().unwrap()["x-up"], "1");
    let (feed, body) = fed();
    let answer = Response::builder().status(529).header("trailer", "x-sum").body(body).unwrap();
    assert!(arrived.answer.send(answer).is_ok());
    let down = client.head();
    assert!(down.starts_with("HTTP/1.1 529 \r\n"), "{down}");
    feed.data("a");
    client.expect("1\r\na\r\n");
    feed.data("b").trailer("x-sum", "9");
    client.expect("1\r\nb\r\n0\r\nx-sum: 9\r\n\r\n");
}

/// The head and the end of the answer come in frames of their own, and nobody reads on to the end of
/// an answer without a body: its row said that the client had gone.
#[test]
fn an_http2_answer_without_a_body_is_complete() {
    let server = Server::new(None, 200);
    let proxy = server.settings().start();
    let mut client = proxy.connect();
    for (method, status) in [("GET", 204), ("GET", 304), ("HEAD", 200)] {
        client.send(format!("{method} / HTTP/1.1\r\nHost: c\r\n\r\n"));
        let feed = server.next().answer(status);
        assert!(client.head().starts_with(&format!("HTTP/1.1 {status} ")));
        let _ = feed.0.send(None);
    }
    for row in proxy.wait_for_rows(3) {
        assert_eq!(row["outcome"], "completed");
    }
}

#[test]
fn more_streams_than_a_connection_takes_go_over_another() {
    for max_streams in [200, 20] {
        let server = Server::new(None, max_streams);
        let proxy = server.settings().start();
        // One call first, so that there is a connection to share.
        let mut first = proxy.connect();
        first.send("GET /first HTTP/1.1\r\nHost: c\r\n\r\n");
        server.next().answer_without_body();
        first.head();
        let mut clients: Vec<_> = (0..130).map(|_| proxy.connect()).collect();
        for client in &mut clients {
            client.send("GET / HTTP/1.1\r\nHost: c\r\n\r\n");
        }
        // All of them have arrived before the first is answered.
        let arrived: Vec<_> = clients.iter().map(|_| server.next()).collect();
        for arrived in arrived {
            arrived.answer_without_body();
        }
        for client in &mut clients {
            assert!(client.head().starts_with("HTTP/1.1 204 "));
        }
    }
}

#[test]
fn a_reset_by_the_provider_is_a_cut_and_its_next_connection_a_new_one() {
    let server = Server::new(None, 200);
    let proxy = server.settings().start();
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: c\r\n\r\n");
    let feed = server.next().answer(200);
    client.head();
    feed.data("a");
    client.expect("1\r\na\r\n");
    drop(feed);
    client.expect_closed();

    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: c\r\n\r\n");
    let unanswered = server.next();
    server.cut();
    assert!(client.head().starts_with("HTTP/1.1 502 "));
    drop(unanswered);
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: c\r\n\r\n");
    server.next().answer_without_body();
    assert!(client.head().starts_with("HTTP/1.1 204 "));
    let rows = proxy.rows();
    let outcomes: Vec<_> = rows.iter().map(|row| row["outcome"].clone()).collect();
    assert_eq!(outcomes, [json!("upstream_failed"), json!("upstream_failed"), json!("completed")]);
    let errors: Vec<_> = rows.iter().map(|row| row["error"].clone()).collect();
    assert_eq!(errors, [json!("upstream_reset"), json!("no_response"), json!(null)]);
}

#[test]
fn a_held_request_is_asked_for_its_usage_over_http2_on_both_sides() {
    const CHUNK: &str = "data: {\"choices\":[{}],\"usage\":null}\n\n";
    const EXTRA: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9}}\n\n";
    const DONE: &str = "data: [DONE]\n\n";
    let server = Server::new(None, 200);
    let url = format!("http://{}", server.address);
    let keys = "http2 = \"always\"\nstream_usage = \"inject\"";
    let proxy = Settings::default().upstream("up", url, keys).start();
    let client = Client::new(&proxy);
    for length in [None, Some(15)] {
        let mut request = Request::post("http://proxy.example/v1/chat/completions");
        if let Some(length) = length {
            request = request.header("content-length", length);
        }
        let (feed, body) = fed();
        let answer = client.send(request, body);
        feed.data("{\"stream\"").data(":true}").end();
        let mut arrived = server.next();
        let asked = "{\"stream_options\":{\"include_usage\":true},\"stream\":true}";
        assert_eq!(arrived.head.headers["content-length"], asked.len().to_string());
        let body = server.background.wait((&mut arrived.body).collect()).unwrap().to_bytes();
        assert_eq!(body, asked);
        arrived.answer_events().data(CHUNK).data(EXTRA).data(DONE).end();
        let answer = client.wait(answer).unwrap().into_body();
        let down = client.background.wait(answer.collect()).unwrap().to_bytes();
        assert_eq!(down, format!("data: {{\"choices\":[{{}}]}}\n\n{DONE}"));
    }
    for row in proxy.wait_for_rows(2) {
        assert_eq!((&row["input_tokens"], &row["stream_usage"]), (&json!(9), &json!("injected")));
    }
}

#[test]
fn a_client_that_leaves_resets_the_provider_s_stream() {
    let server = Server::new(None, 200);
    let proxy = server.settings().start();
    let mut client = proxy.connect();
    client.send("GET /before HTTP/1.1\r\nHost: c\r\n\r\n");
    let mut arrived = server.next();
    drop(client);
    server.background.wait(arrived.answer.closed());

    let mut client = proxy.connect();
    client.send("GET /within HTTP/1.1\r\nHost: c\r\n\r\n");
    let feed = server.next().answer(200);
    client.head();
    drop(client);
    server.background.wait(feed.0.closed());
    for row in proxy.wait_for_rows(2) {
        assert_eq!(row["outcome"], "client_closed");
    }
}

/// hyper does not tell of a 100 over HTTP/2, so the body must not wait for one.
#[test]
fn an_expected_body_does_not_wait_where_no_one_can_ask_for_it() {
    let server = Server::new(None, 200);
    let proxy = server.settings().start();
    let mut client = proxy.connect();
    let since = std::time::Instant::now();
    client.send("POST / HTTP/1.1\r\nHost: c\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n");
    client.expect("HTTP/1.1 100 Continue\r\n\r\n");
    assert!(since.elapsed() < Duration::from_millis(900), "{:?}", since.elapsed());
    client.send("x");
    let mut arrived = server.next();
    assert_eq!(data(&server.background, &mut arrived.body), "x");
    arrived.answer_without_body();
    client.head();
}
