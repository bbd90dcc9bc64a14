//! The address of an upstream, taken apart and checked once. Owns what a base URL may be; knows nothing
//! of connections.
//!
//! Invariant: a `BaseUrl` holds no userinfo, query or fragment, and its prefix does not end in `/`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use http::Uri;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }

    pub fn default_port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

/// `scheme://host[:port][/prefix]`, to which the rest of a request's path is appended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BaseUrl {
    pub scheme: Scheme,
    /// In lower case; an IPv6 address without its brackets.
    pub host: String,
    pub port: u16,
    /// The `Host` header: with brackets, and with the port unless it is the scheme's own.
    pub authority: String,
    /// Empty, or a path that begins with `/` and does not end in one.
    pub prefix: String,
}

impl BaseUrl {
    pub fn is_tls(&self) -> bool {
        self.scheme == Scheme::Https
    }

    /// Whether the host is this machine, as far as its spelling tells.
    pub fn is_local(&self) -> bool {
        self.host == "localhost"
            || self.host.ends_with(".localhost")
            || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme.as_str(), self.authority, self.prefix)
    }
}

impl FromStr for BaseUrl {
    /// Does not repeat the text where it may hold a password.
    type Err = String;

    fn from_str(text: &str) -> Result<BaseUrl, String> {
        refuse_extras(text)?;
        let wrong = || format!("`{text}` is not a URL such as https://api.example.com");
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let scheme = match uri.scheme_str() {
            Some("http") => Scheme::Http,
            Some("https") => Scheme::Https,
            Some(other) => return Err(format!("`{other}` is not http or https")),
            None => return Err(format!("`{text}` does not begin with http:// or https://")),
        };
        let authority = uri.authority().ok_or_else(wrong)?;
        let bracketed = authority.host().to_ascii_lowercase();
        let host = bracketed.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = port_of(authority.as_str(), &bracketed, scheme).ok_or_else(wrong)?;
        if host.is_empty() || !host_is_sane(&bracketed, &host) {
            return Err(wrong());
        }
        let authority =
            if port == scheme.default_port() { bracketed } else { format!("{bracketed}:{port}") };
        let prefix = uri.path().trim_end_matches('/').to_owned();
        Ok(BaseUrl { scheme, host, port, authority, prefix })
    }
}

/// `http::Uri` drops fragments and keeps userinfo, so both are refused by their signs.
fn refuse_extras(text: &str) -> Result<(), String> {
    let authority = text.split_once("://").map_or(text, |(_, rest)| rest);
    let authority = authority.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err("a URL with a name or password before `@` cannot be used; clients send their \
                    own keys, or name a variable with api_key_env"
            .to_owned());
    }
    for (sign, what) in [('?', "a query"), ('#', "a fragment")] {
        if let Some((before, _)) = text.split_once(sign) {
            // It may hold a key.
            return Err(format!(
                "`{before}{sign}…` has {what}; only a host and a path can be used"
            ));
        }
    }
    Ok(())
}

/// The port that was written, or else the scheme's; `None` where it is not a port.
fn port_of(authority: &str, bracketed_host: &str, scheme: Scheme) -> Option<u16> {
    match authority.get(bracketed_host.len()..)? {
        "" | ":" => Some(scheme.default_port()),
        rest => rest.strip_prefix(':')?.parse().ok().filter(|port| *port != 0),
    }
}

/// Brackets hold an IPv6 address and nothing else does; other hosts are names or IPv4 addresses.
fn host_is_sane(bracketed: &str, host: &str) -> bool {
    if bracketed.starts_with('[') {
        return host.parse::<std::net::Ipv6Addr>().is_ok();
    }
    host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> BaseUrl {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn a_url_is_taken_apart() {
        let url = parse("https://API.openai.com");
        assert_eq!(
            (url.scheme, url.host.as_str(), url.port),
            (Scheme::Https, "api.openai.com", 443)
        );
        assert_eq!((url.authority.as_str(), url.prefix.as_str()), ("api.openai.com", ""));

        let url = parse("http://[::1]:8000/llm/");
        assert_eq!((url.host.as_str(), url.port), ("::1", 8000));
        assert_eq!((url.authority.as_str(), url.prefix.as_str()), ("[::1]:8000", "/llm"));
        assert!(url.is_local());
    }

    #[test]
    fn a_scheme_s_own_port_is_not_repeated_in_the_host_header() {
        assert_eq!(parse("https://a.example:443").authority, "a.example");
        assert_eq!(parse("http://a.example:443").authority, "a.example:443");
        assert_eq!(parse("http://a.example:80/").to_string(), "http://a.example");
    }

    #[test]
    fn what_cannot_be_a_base_is_refused() {
        let wrong = [
            "",
            "api.openai.com",
            "localhost:8000",
            "ftp://a.example",
            "https://",
            "https:///v1",
            "https://a.example?x=1",
            "https://a.example/#top",
            "https://a.example:0",
            "https://a.example:99999",
            "https://a b.example",
            "https://exämple.com",
            "http://[::1",
            "http://[nonsense]",
        ];
        for text in wrong {
            assert!(text.parse::<BaseUrl>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_password_is_not_repeated() {
        let error = "https://me:hunter2@a.example".parse::<BaseUrl>().unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
    }

    proptest::proptest! {
        /// What is shown is what was understood, and nothing that is typed can panic.
        #[test]
        fn what_is_shown_reads_back_the_same(text in "(https?://)?[a-zA-Z0-9.:\\[\\]/@?#%é_-]{0,24}") {
            if let Ok(url) = text.parse::<BaseUrl>() {
                proptest::prop_assert_eq!(&url, &url.to_string().parse::<BaseUrl>().unwrap());
                proptest::prop_assert!(!url.prefix.ends_with('/'));
            }
        }
    }
}
