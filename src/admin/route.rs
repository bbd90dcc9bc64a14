//! Which of tokenmeter's own pages a path names. Owns their names; knows nothing of what they answer.

use http::Method;
use percent_encoding::percent_decode_str;

use crate::record::CallId;

/// A page of tokenmeter's own, behind the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// The pages for browsers, all of them.
    Page,
    /// A file that these pages need.
    Asset(String),
    /// `/admin`, whose links would lead astray.
    ToPage,
    Stats,
    Usage,
    Call(CallId),
    Session(String),
    Users,
    User(String),
    Estimates,
    /// The calls that are open.
    Live,
    Export,
    Prices,
    ReloadPrices,
    /// This API's description.
    OpenApi,
    Metrics,
}

impl Route {
    /// How it is asked for.
    pub(super) fn method(&self) -> Method {
        match self {
            Route::ReloadPrices => Method::POST,
            _ => Method::GET,
        }
    }

    /// Nothing where there is no such page.
    pub(super) fn of(path: &str) -> Option<Route> {
        if path == "/metrics" {
            return Some(Route::Metrics);
        }
        let page = match path.strip_prefix("/admin")? {
            "" => Route::ToPage,
            "/" => Route::Page,
            "/stats" => Route::Stats,
            "/usage" => Route::Usage,
            "/users" => Route::Users,
            "/estimates" => Route::Estimates,
            "/export" => Route::Export,
            "/live" => Route::Live,
            "/openapi.json" => Route::OpenApi,
            "/prices" => Route::Prices,
            "/prices/reload" => Route::ReloadPrices,
            other => Route::named(other)?,
        };
        Some(page)
    }

    /// A name is all that follows, decoded: it may hold slashes, typed as they are or encoded.
    fn named(path: &str) -> Option<Route> {
        let (kind, name) = path.strip_prefix('/')?.split_once('/')?;
        let name = percent_decode_str(name).decode_utf8().ok().filter(|name| !name.is_empty())?;
        match kind {
            "usage" => name.parse().ok().map(Route::Call),
            "assets" => Some(Route::Asset(name.into_owned())),
            "sessions" => Some(Route::Session(name.into_owned())),
            "users" => Some(Route::User(name.into_owned())),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_decoded_whole() {
        let user = |name: &str| Some(Route::User(name.to_owned()));
        assert_eq!(Route::of("/admin/users/ann"), user("ann"));
        assert_eq!(Route::of("/admin/users/team%2Fann+b%20c"), user("team/ann+b c"));
        assert_eq!(Route::of("/admin/users/team/ann"), user("team/ann"));
        assert_eq!(Route::of("/admin/users/%C3%A9"), user("é"));
        assert_eq!(Route::of("/admin/users/.."), user(".."));
        let session = Route::Session("s 1".to_owned());
        assert_eq!(Route::of("/admin/sessions/s%201"), Some(session));
        assert_eq!(Route::of("/admin/export"), Some(Route::Export));
    }

    #[test]
    fn what_is_not_there_is_not_there() {
        let nowhere = [
            "",
            "/",
            "/usage",
            "/metrics/",
            "/adminx",
            "/admin/stats/",
            "/admin/statistics",
            "/admin//stats",
            "/admin/sessions",
            "/admin/sessions/",
            "/admin/users/",
            "/admin/estimates/gpt-4o",
            "/Admin/stats",
            "/admin/usage/",
            "/admin/usage/7",
            "/admin/users/%FF",
            "/admin/../admin/stats",
        ];
        for path in nowhere {
            assert_eq!(Route::of(path), None, "{path}");
        }
    }
}
