//! tokenmeter's own HTTP side: the admin API, who may use it, and the page for browsers. Blind to the
//! proxy; reads request heads only.
//!
//! | file | owns |
//! | --- | --- |
//! | `access`, `guard` | the token, login links, sessions; who has failed too often |
//! | `route` | which page a path names |
//! | `params`, `question` | what may be asked, and the shapes of the answers; the command line asks here too |
//! | `export`, `download` | all calls as a file; that file as a stream with back-pressure |
//! | `prices` | the price table in force, and reading it again |
//! | `live` | the calls that are open |
//! | `metrics` | what Prometheus is told |
//! | `openapi` | the description of all this |
//! | `dashboard` | the pages for browsers |
//! | `reply` | answers and refusals as HTTP |
//!
//! Invariant: `/healthz`, `/readyz` and a valid login link are open, and `/metrics` where it is configured
//! so. Everything else says the same thing to whoever has no token, whether it exists or not.

mod access;
mod dashboard;
mod download;
pub mod export;
mod guard;
mod live;
mod metrics;
mod openapi;
pub mod params;
pub mod prices;
pub mod question;
mod reply;
mod route;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method, Response};
use http_body_util::{Either, Full};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::ledger::{Ledger, Reader};
use crate::secret::Secret;
use crate::units::Timestamp;
use access::Entry;
pub use access::{Access, TOKEN_FILE};
use dashboard::Answer;
pub use download::Download;
use export::Export;
pub use metrics::{Metrics, Occupancy, Sources};
use params::pairs;
use prices::PricesQuestion;
pub use prices::{PriceKeeper, Reloaded};
use question::Question;
use reply::{Form, Refusal};
use route::Route;

/// How long a question waits for the calls that have just ended to reach the database. When that
/// cannot be written, the answer comes from what it holds.
const FRESHNESS: Duration = Duration::from_millis(250);

/// How long the ledger's thread may take to say which calls are open: it may be in a long transaction.
const LIVE: Duration = Duration::from_secs(10);

/// Questions asked of the database at once, so that reports cannot take the machine from calls.
const QUERIES: usize = 4;

/// Downloads at once. They have no limit of time, so they have turns of their own: however slowly they are
/// taken, questions are answered.
const EXPORTS: usize = 2;

/// How long a further question waits for its turn.
const TURN: Duration = Duration::from_secs(10);

/// Logs in with a code.
const LOGIN: &str = "/admin/login";

/// Whether a path names a page that is behind the token.
#[doc(hidden)]
pub fn is_a_page(path: &str) -> bool {
    Route::of(path).is_some()
}

/// Answers requests to tokenmeter itself.
#[derive(Debug)]
pub struct Admin {
    ledger: Ledger,
    access: Access,
    metrics: Arc<Metrics>,
    scrapes: Arc<Semaphore>,
    prices: Arc<dyn PriceKeeper>,
    queries: Arc<Semaphore>,
    exports: Arc<Semaphore>,
}

/// Who asks, as the connection tells.
#[derive(Clone, Copy, Debug)]
pub struct Visitor {
    pub address: IpAddr,
    /// Over TLS.
    pub is_encrypted: bool,
    /// The port that calls come in at, where it is another than this.
    pub calls_port: Option<u16>,
}

/// An answer, whole or as it is read from the ledger.
pub type AdminBody = Either<Full<Bytes>, Download>;

impl Admin {
    pub fn new(
        ledger: Ledger,
        access: Access,
        metrics: Metrics,
        prices: Arc<dyn PriceKeeper>,
    ) -> Admin {
        let turns = [QUERIES, EXPORTS, 1].map(|turns| Arc::new(Semaphore::new(turns)));
        let [queries, exports, scrapes] = turns;
        let metrics = Arc::new(metrics);
        Admin { ledger, access, metrics, scrapes, prices, queries, exports }
    }

    /// Path and query of a link that logs a browser in, once. Every one is new.
    pub fn login_path(&self) -> String {
        format!("{LOGIN}?code={}", self.access.issue_code().expose())
    }

    /// Answers a request that is not for a provider, whatever its path. Its body is not looked at.
    pub async fn respond(&self, request: &Parts, visitor: &Visitor) -> Response<AdminBody> {
        let answer = self.answer(request, visitor).await;
        let path = request.uri.path();
        let form = match accepts_html(&request.headers) {
            true if path == "/admin/" => Form::Page,
            true if path.starts_with("/admin") => Form::Door(path),
            _ => Form::Json,
        };
        let response = answer.unwrap_or_else(|refusal| whole(refusal.response(form)));
        reply::finish(response, &request.method)
    }

    async fn answer(
        &self,
        request: &Parts,
        visitor: &Visitor,
    ) -> Result<Response<AdminBody>, Refusal> {
        let open_to_all = match request.uri.path() {
            "/healthz" => only_read(&request.method).map(|()| reply::alive()),
            "/readyz" => only_read(&request.method).map(|()| reply::ready(&self.ledger.health())),
            "/metrics" if self.metrics.is_public() => {
                only_read(&request.method)?;
                return self.scrape(request).await.map(whole);
            }
            LOGIN => self.login(request, visitor),
            _ => return self.answer_whom_it_knows(request, visitor).await,
        };
        open_to_all.map(whole)
    }

    async fn answer_whom_it_knows(
        &self,
        request: &Parts,
        visitor: &Visitor,
    ) -> Result<Response<AdminBody>, Refusal> {
        match self.access.admits(request, visitor.address) {
            Entry::Admitted => {}
            Entry::Unknown => return Err(Refusal::Unauthorized),
            Entry::TooOften(wait) => return Err(Refusal::TooOften(wait)),
        }
        let Some(route) = Route::of(request.uri.path()) else { return Err(Refusal::NoSuchPage) };
        if route.method() == Method::GET {
            only_read(&request.method)?;
        } else if request.method != route.method() {
            return Err(Refusal::OnlyPost);
        }
        match route {
            Route::ToPage => Ok(whole(reply::redirect("admin/"))),
            Route::Page => self.page(request, visitor).await.map(whole),
            Route::Asset(name) => asset(&name, request).await.map(whole),
            Route::Export => self.export(request).await,
            Route::Metrics => self.scrape(request).await.map(whole),
            Route::Live => self.live(request).await.map(whole),
            Route::OpenApi => self.describe(request).map(whole),
            Route::Prices => self.list_prices(request).await.map(whole),
            Route::ReloadPrices => self.reload_prices(request).await.map(whole),
            route => self.ask(route, request).await.map(whole),
        }
    }

    /// A code is used up by `GET` only, so that whatever looks at a link beforehand leaves it valid.
    fn login(&self, request: &Parts, visitor: &Visitor) -> Result<Response<Full<Bytes>>, Refusal> {
        let code = || {
            let pairs = pairs(request.uri.query().unwrap_or_default()).ok()?;
            pairs.into_iter().find_map(|(name, text)| (name == "code").then_some(text))
        };
        let code = (request.method == Method::GET).then(code).flatten();
        let code = code.ok_or(Refusal::Unauthorized)?;
        match self.access.log_in(&code, visitor.address) {
            Ok(session) => {
                Ok(reply::logged_in(self.access.cookie(), &session, visitor.is_encrypted))
            }
            Err(Entry::TooOften(wait)) => Err(Refusal::TooOften(wait)),
            Err(_) => Err(Refusal::Unauthorized),
        }
    }

    async fn ask(&self, route: Route, request: &Parts) -> Result<Response<Full<Bytes>>, Refusal> {
        let pairs = pairs(request.uri.query().unwrap_or_default())?;
        let now = Timestamp::now();
        let question = match route {
            Route::Stats => Question::stats(&pairs, now)?,
            Route::Usage => Question::usage(&pairs, now)?,
            Route::Users => Question::users(&pairs, now)?,
            Route::Call(id) => Question::call(id, &pairs)?,
            Route::Session(name) => Question::session(name, &pairs)?,
            Route::User(name) => Question::user(name, &pairs, now)?,
            Route::Estimates => Question::estimates(&pairs)?,
            _ => return Err(Refusal::NoSuchPage),
        };
        let asked = question.clone();
        let answer = self.query(move |reader| asked.answer(reader)).await?;
        answer.map(|answer| reply::json(&answer)).ok_or_else(|| reply::unknown(&question))
    }

    async fn page(
        &self,
        request: &Parts,
        visitor: &Visitor,
    ) -> Result<Response<Full<Bytes>>, Refusal> {
        let base = visitor.base_of_calls(request);
        let pairs = pairs(request.uri.query().unwrap_or_default())?;
        let zone = access::cookie(&request.headers, dashboard::ZONE_COOKIE);
        let asked = dashboard::Request::read(&pairs, zone, &base, Timestamp::now())?;
        let nonce = Secret::random();
        let (asked, with) = (asked.clone(), nonce.clone());
        match self.query(move |reader| asked.answer(reader, with.expose())).await? {
            Answer::Page(html) => Ok(reply::html(html, &nonce)),
            Answer::Csv { name, bytes } => Ok(reply::csv(&name, bytes)),
            Answer::Elsewhere(link) => Ok(reply::redirect(&link)),
            Answer::Unknown(message) => Err(Refusal::Unknown(message)),
        }
    }

    fn describe(&self, request: &Parts) -> Result<Response<Full<Bytes>>, Refusal> {
        let pairs = pairs(request.uri.query().unwrap_or_default())?;
        params::none(&pairs)?;
        Ok(reply::json(&openapi::document(self.metrics.is_public(), self.access.cookie())))
    }

    /// One at a time, and not on the thread that forwards calls: with many label sets the page is megabytes.
    async fn scrape(&self, request: &Parts) -> Result<Response<Full<Bytes>>, Refusal> {
        let turn = turn(&self.scrapes).await?;
        let (metrics, headers) = (Arc::clone(&self.metrics), request.headers.clone());
        let written = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            metrics.answer(&headers)
        });
        written.await.map_err(|_| Refusal::Failed)
    }

    async fn live(&self, request: &Parts) -> Result<Response<Full<Bytes>>, Refusal> {
        let pairs = pairs(request.uri.query().unwrap_or_default())?;
        params::none(&pairs)?;
        let turn = turn(&self.queries).await?;
        let ledger = self.ledger.clone();
        let open = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            ledger.open_calls(LIVE)
        });
        let open = open.await.map_err(|_| Refusal::Failed)?.ok_or(Refusal::Busy)?;
        Ok(reply::json(&live::answer(&open, Timestamp::now())))
    }

    async fn list_prices(&self, request: &Parts) -> Result<Response<Full<Bytes>>, Refusal> {
        let pairs = pairs(request.uri.query().unwrap_or_default())?;
        let question = PricesQuestion::new(&pairs, Timestamp::now())?;
        let keeper = Arc::clone(&self.prices);
        let turn = turn(&self.queries).await?;
        let answer = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            question.answer(&keeper.table(), &keeper.updates())
        });
        Ok(reply::json(&answer.await.map_err(|_| Refusal::Failed)?))
    }

    async fn reload_prices(&self, request: &Parts) -> Result<Response<Full<Bytes>>, Refusal> {
        let pairs = pairs(request.uri.query().unwrap_or_default())?;
        params::none(&pairs)?;
        let keeper = Arc::clone(&self.prices);
        let reloaded = tokio::task::spawn_blocking(move || prices::reload(&*keeper));
        let answer = reloaded.await.map_err(|_| Refusal::Failed)?.map_err(Refusal::Prices)?;
        Ok(reply::json(&answer))
    }

    /// A download begins only when its first bytes are there: what fails before is refused as any
    /// question is.
    async fn export(&self, request: &Parts) -> Result<Response<AdminBody>, Refusal> {
        let pairs = pairs(request.uri.query().unwrap_or_default())?;
        let now = Timestamp::now();
        let export = Export::question(&pairs, now)?;
        let format = export.format;
        let body = if request.method == Method::HEAD {
            Download::of_nothing()
        } else {
            let turn = turn(&self.exports).await?;
            Download::begin(export, self.ledger.clone(), turn).await?
        };
        Ok(reply::download(Either::Right(body), format, now))
    }

    /// Puts a question on a thread that may block. If whoever asked goes away, it ends in its own
    /// time, and keeps its turn until then.
    async fn query<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Reader) -> Result<T, crate::ledger::QueryError> + Send + 'static,
    ) -> Result<T, Refusal> {
        let turn = turn(&self.queries).await?;
        let ledger = self.ledger.clone();
        let asked = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            ledger.sync(FRESHNESS);
            question(&ledger.reader())
        });
        Ok(asked.await.map_err(|_| Refusal::Failed)??)
    }
}

impl Visitor {
    /// Where calls go, as far as this one can see: what was typed to come here, with the port of calls.
    fn base_of_calls(&self, request: &Parts) -> String {
        let host = request.headers.get(http::header::HOST).and_then(|host| host.to_str().ok());
        let authority = request.uri.authority().map(http::uri::Authority::as_str);
        let host = authority.or(host).unwrap_or("127.0.0.1:4100");
        let scheme = if self.is_encrypted { "https" } else { "http" };
        let Some(port) = self.calls_port else { return format!("{scheme}://{host}") };
        let is_port = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let name = host.rsplit_once(':').filter(|(_, port)| is_port(port));
        format!("{scheme}://{}:{port}", name.map_or(host, |(name, _)| name))
    }
}

/// A file that pages need. Its name changes with its content, so browsers may keep it.
async fn asset(name: &str, request: &Parts) -> Result<Response<Full<Bytes>>, Refusal> {
    let asset = dashboard::Asset::find(name).ok_or(Refusal::NoSuchPage)?;
    if let Some(packed) = asset.packed(&request.headers) {
        return Ok(reply::asset(packed, asset.content_type, true));
    }
    if request.method == Method::HEAD {
        return Ok(reply::asset_of_length(asset.plain_length(), asset.content_type));
    }
    // Unpacking takes longer than a thread that forwards calls may be held.
    let plain = tokio::task::spawn_blocking(|| asset.plain()).await;
    Ok(reply::asset(plain.map_err(|_| Refusal::Failed)?, asset.content_type, false))
}

async fn turn(turns: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Refusal> {
    let turn = Arc::clone(turns).acquire_owned();
    let turn = tokio::time::timeout(TURN, turn).await.map_err(|_| Refusal::Busy)?;
    turn.map_err(|_| Refusal::Busy)
}

fn whole(answer: Response<Full<Bytes>>) -> Response<AdminBody> {
    answer.map(Either::Left)
}

fn only_read(method: &Method) -> Result<(), Refusal> {
    match *method {
        Method::GET | Method::HEAD => Ok(()),
        _ => Err(Refusal::Method),
    }
}

fn accepts_html(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(http::header::ACCEPT).iter();
    accepted.filter_map(|value| value.to_str().ok()).any(|value| value.contains("text/html"))
}
