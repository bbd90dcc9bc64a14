//! Requests that two readers could read differently, and what is to come of them. Needs nothing but the standard
//! library, so that other test binaries can have it too. A character is a byte.

/// What must never be taken for a request of its own.
pub(crate) const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: c\r\n\r\n";

/// What is to come of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// An error of 4xx or 5xx for the client, nothing for the provider.
    Refused,
    /// One request with this body.
    Passes(&'static str),
    /// Refused, or cut off before it was whole: the provider never has it as a message.
    NeverWhole,
}
use Fate::{NeverWhole, Passes, Refused};

fn posted(fields: &str, body: &str) -> String {
    format!("POST /x HTTP/1.1\r\nHost: c\r\n{fields}\r\n{body}")
}

/// Heads that say in several ways, or in an odd way, how long the body is.
pub(crate) fn framings() -> Vec<(String, Fate)> {
    let mut cases = Vec::new();
    let mut case = |fields: &str, body: &str, fate| cases.push((posted(fields, body), fate));
    let hidden_chunks = format!("0\r\n\r\n{HIDDEN}");
    // Both framings, in either order: the length goes, or all is refused.
    case(
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "5\r\nhello\r\n0\r\n\r\n",
        Passes("hello"),
    );
    case(
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "5\r\nhello\r\n0\r\n\r\n",
        Passes("hello"),
    );
    case("Content-Length: 6\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\nX", Passes(""));
    // Transfer codings that are not exactly `chunked`.
    for coding in [
        "gzip, chunked",
        "chunked, gzip",
        "chunked, chunked",
        "identity",
        "identity, chunked",
        "xchunked",
        "chunked;q=1",
        "\"chunked\"",
        "chunked,",
        ",chunked",
        "chunked\u{b}",
        "\u{b}chunked",
        "chunked\u{c}",
        "chunked\u{a0}",
        "chu\u{0}nked",
        "chunkedchunked",
        "[chunked]",
        "x: chunked",
        "deflate",
        "cow",
        "chunk",
        "",
        "chunked chunked",
        "chunked\0",
        "'chunked'",
        "ch\tunked",
        "CHUNKED; a",
    ] {
        case(&format!("Transfer-Encoding: {coding}\r\n"), &hidden_chunks, NeverWhole);
        case(&format!("Content-Length: 3\r\nTransfer-Encoding: {coding}\r\n"), "abc", NeverWhole);
    }
    for coding in ["Chunked", "CHUNKED", " chunked", "chunked ", "chunked\t", "\tchunked"] {
        case(&format!("Transfer-Encoding:{coding}\r\n"), "1\r\na\r\n0\r\n\r\n", Passes("a"));
    }
    case("Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n", &hidden_chunks, NeverWhole);
    case("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", &hidden_chunks, NeverWhole);
    case(
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        &hidden_chunks,
        NeverWhole,
    );
    // Names that are nearly the ones that frame.
    for name in
        ["Transfer-Encoding ", "Transfer-Encoding\t", " Transfer-Encoding", "\tTransfer-Encoding"]
    {
        case(&format!("{name}: chunked\r\n"), &hidden_chunks, Refused);
        case(&format!("Content-Length: 5\r\n{name}: chunked\r\n"), &hidden_chunks, Refused);
    }
    case("Transfer\u{0}Encoding: chunked\r\n", &hidden_chunks, Refused);
    case("Transfer Encoding: chunked\r\n", &hidden_chunks, Refused);
    cases
}

/// Lengths that are not one number, under names that are nearly the one.
pub(crate) fn lengths() -> Vec<(String, Fate)> {
    let mut cases = Vec::new();
    let mut case = |fields: &str, body: &str, fate| cases.push((posted(fields, body), fate));
    for length in [
        "+5",
        "-5",
        "-0",
        "0x5",
        "5,5",
        "5, 6",
        "5 5",
        "5;5",
        "1_0",
        "5.0",
        "5e0",
        "\u{b}5",
        "5\u{c}",
        "\"5\"",
        "five",
        "18446744073709551616",
        "99999999999999999999999",
        "\u{d9}\u{a2}",
        "5\0",
        "0b101",
        "- 5",
        "5-5",
        "05a",
        "0,5",
        ",5",
        "5,",
    ] {
        case(&format!("Content-Length: {length}\r\n"), "hello", Refused);
    }
    case("Content-Length:\r\n", HIDDEN, Refused);
    case("Content-Length: 5\r\nContent-Length: 6\r\n", "hello!", Refused);
    case("Content-Length: 0\r\nContent-Length: 5\r\n", "hello", Refused);
    case("Content-Length: 5\r\ncontent-length: 5\r\n", "hello", Passes("hello"));
    case("Content-Length: 005\r\n", "hello", Passes("hello"));
    for name in [
        "Content-Length ",
        "Content-Length\t",
        " Content-Length",
        "Content Length",
        "Content\0Length",
    ] {
        case(&format!("{name}: 5\r\n"), "hello", Refused);
    }
    cases
}

/// Chunked bodies that are not as they should be.
pub(crate) fn chunks() -> Vec<(String, Fate)> {
    let mut cases = Vec::new();
    let mut case = |body: &str, fate| {
        let head = "POST /x HTTP/1.1\r\nHost: c\r\nTransfer-Encoding: chunked\r\n\r\n";
        cases.push((format!("{head}{body}"), fate));
    };
    for size in [
        "0x5",
        "+5",
        "-5",
        "5_0",
        " 5 5",
        "5 5",
        "g",
        "",
        "5h",
        "FFFFFFFFFFFFFFFFF",
        "10000000000000005",
        "0x",
        "\u{b}5",
        "5\0",
        "5\u{c}",
        "\"5\"",
        "5,",
        "\u{d9}\u{a5}",
        "5\r",
        "5.",
        "#5",
    ] {
        case(&format!("{size}\r\nhello\r\n0\r\n\r\n"), NeverWhole);
    }
    case("5\nhello\n0\n\n", NeverWhole);
    case("5\r\nhello\n0\r\n\r\n", NeverWhole);
    case("5\r\nhelloX\r\n0\r\n\r\n", NeverWhole);
    case("5\r\nhello0\r\n\r\n", NeverWhole);
    case("5\rhello\r0\r\r", NeverWhole);
    case("5;a\nb\r\nhello\r\n0\r\n\r\n", NeverWhole);
    case("5;a\rb\r\nhello\r\n0\r\n\r\n", NeverWhole);
    case("5\r\nhello\r\n0\r\nX\u{0}: y\r\n\r\n", NeverWhole);
    case("5\r\nhello\r\n0\r\nno colon\r\n\r\n", NeverWhole);
    case("5\r\nhello\r\n", NeverWhole);
    case("5\r\nhel", NeverWhole);
    case("5;name=value\r\nhello\r\n0;x\r\n\r\n", Passes("hello"));
    case("5;name=\"a;b\"\r\nhello\r\n0\r\n\r\n", Passes("hello"));
    case("00000005\r\nhello\r\n000\r\n\r\n", Passes("hello"));
    case("2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", Passes("hello"));
    case("A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", Passes("01234567890123456789"));
    cases
}

/// Lines that are none, and names and values that cannot be.
pub(crate) fn lines() -> Vec<(String, Fate)> {
    let mut cases = Vec::new();
    let mut case = |text: &str, fate| cases.push((text.to_owned(), fate));
    for fields in [
        "X: a\r\n folded\r\n",
        "X: a\r\n\tfolded\r\n",
        "X : a\r\n",
        "X\t: a\r\n",
        ": a\r\n",
        "X a\r\n",
        "X\r\n",
        "X: a\0b\r\n",
        "X: a\rb\r\n",
        "X(: a\r\n",
        "X\u{e9}: a\r\n",
        "X,Y: a\r\n",
        "\u{0}X: a\r\n",
        "X\"Y\": a\r\n",
        "X@: a\r\n",
        "X/: a\r\n",
        "X[]: a\r\n",
        "X{}: a\r\n",
        "X: a\r\r\n",
        "\rX: a\r\n",
        "X: \u{7f}\r\n",
        "X: a\u{1}b\r\n",
    ] {
        case(&format!("GET /x HTTP/1.1\r\nHost: c\r\n{fields}\r\n"), Refused);
        case(&format!("GET /x HTTP/1.1\r\n{fields}Host: c\r\n\r\n"), Refused);
    }
    for first in [
        "GET  /x HTTP/1.1",
        "GET /x  HTTP/1.1",
        "GET\t/x HTTP/1.1",
        "GET /x",
        "GET /x HTTP/1.1 ",
        " GET /x HTTP/1.1",
        "GET /x HTTP/1.2",
        "GET /x HTTP/2.0",
        "GET /x HTTP/0.9",
        "GET /x HTTP/1.10",
        "GET /x HTTP/11",
        "GET /x http/1.1",
        "GET /x HTTP/1,1",
        "GET /x HTTP/ 1.1",
        "GET /x HTTP/1.1\0",
        "GET /a b HTTP/1.1",
        "GET x HTTP/1.1",
        "G(T /x HTTP/1.1",
        "GET /\0x HTTP/1.1",
        "GET /x\u{b}HTTP/1.1",
        "",
        "GET",
        "GET /x HTTP/1.1\r",
        "GET /\u{1}x HTTP/1.1",
        "\0GET /x HTTP/1.1",
        "GET",
        "HTTP/1.1 200 OK",
        "GET * HTTP/1.1",
        "GET admin HTTP/1.1",
        "GET ?x HTTP/1.1",
        "GET /x ICAP/1.1",
    ] {
        if !first.is_empty() {
            case(&format!("{first}\r\nHost: c\r\n\r\n"), Refused);
        }
    }
    // Lines that end with LF alone are read; what goes up has CRLF.
    case("GET /x HTTP/1.1\nHost: c\n\n", Passes(""));
    case("GET /x HTTP/1.1\r\nHost: c\nX: y\r\n\r\n", Passes(""));
    case("\r\nGET /x HTTP/1.1\r\nHost: c\r\n\r\n", Passes(""));
    case("GET /x HTTP/1.1\r\nHost: c\r\nX:\r\nY: \t \r\n\r\n", Passes(""));
    cases
}

/// Hosts and targets.
pub(crate) fn hosts() -> Vec<(String, Fate)> {
    let mut cases = Vec::new();
    let mut case = |text: String, fate| cases.push((text, fate));
    let get = |fields: &str| format!("GET /x HTTP/1.1\r\n{fields}\r\n");
    case(get(""), Refused);
    case(get("Host: a\r\nHost: b\r\n"), Refused);
    case(get("Host: a\r\nhost: a\r\n"), Refused);
    for host in [
        "a/b", "a?b", "a#b", "u@a", "a b", "a,b", "a:b", "a:", "[::1", "a\\b", "a%2fb", "a\u{e9}",
        "a:99999", "<a>", "a;b",
    ] {
        let fate = match host {
            "a:" | "a;b" | "a,b" => Passes(""),
            _ => Refused,
        };
        case(get(&format!("Host: {host}\r\n")), fate);
    }
    case(get("Host:\r\n"), Passes(""));
    case(get("Host: 127.0.0.1:4100\r\n"), Passes(""));
    case(get("Host: [::1]:4100\r\n"), Passes(""));
    case("GET /x HTTP/1.0\r\n\r\n".to_owned(), Passes(""));
    case("CONNECT c:443 HTTP/1.1\r\nHost: c:443\r\n\r\n".to_owned(), Refused);
    case("CONNECT / HTTP/1.1\r\nHost: c\r\n\r\n".to_owned(), Refused);
    case(
        "GET http://elsewhere.example/x HTTP/1.1\r\nHost: elsewhere.example\r\n\r\n".to_owned(),
        Passes(""),
    );
    case("GET ftp://elsewhere.example/x HTTP/1.1\r\nHost: c\r\n\r\n".to_owned(), Passes(""));
    case("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), NeverWhole);
    cases
}
