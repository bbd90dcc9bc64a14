//! The ways to break the rules, and what is to become of each. Owns the tables, not how they are played.

use Fate::{Cut, Own, Passes, Whole};

/// What a provider does with a request that it has read.
#[derive(Clone, Debug)]
pub(super) enum Does {
    Send(Vec<u8>),
    /// Again and again, until the other side has closed or has had as many.
    Repeat(&'static str, usize),
    Close,
    Reset,
    /// Nothing more, and it leaves the connection open.
    Wait,
}

/// What becomes of it.
#[derive(Clone, Debug)]
pub(super) enum Fate {
    /// The answer with this status and body, and the connection can be used again.
    Whole(u16, &'static str),
    /// The same, but what came behind it is doubtful: that connection is done with.
    Passes(u16, &'static str),
    /// So much, and then the client sees that it is cut; the row says why.
    Cut(u16, &'static str, &'static str),
    /// An error of tokenmeter's own with this code; the row says why.
    Own(u16, &'static str, &'static str),
}

pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) method: &'static str,
    pub(super) does: Vec<Does>,
    pub(super) fate: Fate,
}

pub(super) fn send(text: &str) -> Does {
    Does::Send(crate::rig::bytes_of(text))
}

/// Says this, and leaves the connection open.
fn says(name: &'static str, text: &str, fate: Fate) -> Case {
    Case { name, method: "POST", does: vec![send(text), Does::Wait], fate }
}

/// Says this, and does that.
fn then(name: &'static str, text: &str, last: Does, fate: Fate) -> Case {
    Case { name, method: "POST", does: vec![send(text), last], fate }
}

const NO_ANSWER: Fate = Own(502, "upstream_unreachable", "no_response");
const TOO_LATE: Fate = Own(504, "upstream_timeout", "response_timeout");

/// The head of an answer with these fields.
fn ok(fields: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{fields}\r\n{body}")
}

pub(super) fn broken_off() -> Vec<Case> {
    let length = "Content-Length: 10\r\n";
    let chunked = "Transfer-Encoding: chunked\r\n";
    vec![
        then("closes at once", "", Does::Close, NO_ANSWER),
        then("resets at once", "", Does::Reset, NO_ANSWER),
        then("says nothing", "", Does::Wait, TOO_LATE),
        then("closes in the head", "HTTP/1.1 200 OK\r\nContent-Le", Does::Close, NO_ANSWER),
        then("resets in the head", "HTTP/1.1 200 OK\r\nContent-Le", Does::Reset, NO_ANSWER),
        then("stalls in the head", "HTTP/1.1 200 OK\r\nContent-Le", Does::Wait, TOO_LATE),
        then(
            "closes too early",
            &ok(length, "12345"),
            Does::Close,
            Cut(200, "12345", "answer_truncated"),
        ),
        then(
            "resets in a body",
            &ok(length, "12345"),
            Does::Reset,
            Cut(200, "12345", "upstream_reset"),
        ),
        then(
            "stalls in a body",
            &ok(length, "12345"),
            Does::Wait,
            Cut(200, "12345", "idle_timeout"),
        ),
        then(
            "closes between chunks",
            &ok(chunked, "3\r\nabc\r\n"),
            Does::Close,
            Cut(200, "abc", "chunks_truncated"),
        ),
        then(
            "closes in a chunk",
            &ok(chunked, "5\r\nabc"),
            Does::Close,
            Cut(200, "abc", "chunks_truncated"),
        ),
        then(
            "resets between chunks",
            &ok(chunked, "3\r\nabc\r\n"),
            Does::Reset,
            Cut(200, "abc", "upstream_reset"),
        ),
        then(
            "stalls between chunks",
            &ok(chunked, "3\r\nabc\r\n"),
            Does::Wait,
            Cut(200, "abc", "idle_timeout"),
        ),
        then(
            "stalls before the last mark",
            &ok(chunked, "3\r\nabc\r\n0\r\n"),
            Does::Wait,
            Cut(200, "abc", "idle_timeout"),
        ),
        then(
            "resets what has no length",
            &ok("", "abc"),
            Does::Reset,
            Cut(200, "abc", "upstream_reset"),
        ),
        then("closes what has no length", &ok("", "abc"), Does::Close, Passes(200, "abc")),
        then(
            "closes after all",
            &ok("Content-Length: 3\r\n", "abc"),
            Does::Close,
            Passes(200, "abc"),
        ),
        then(
            "says that it closes",
            &ok("Connection: close\r\nContent-Length: 3\r\n", "abc"),
            Does::Wait,
            Passes(200, "abc"),
        ),
        then("HTTP/1.0", "HTTP/1.0 200 OK\r\n\r\nabc", Does::Close, Passes(200, "abc")),
        then(
            "HTTP/1.0 of known length",
            "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc",
            Does::Wait,
            Passes(200, "abc"),
        ),
    ]
}

pub(super) fn garbage() -> Vec<Case> {
    vec![
        says("HTTP/0.9", "<html>hello</html>\r\n\r\n", NO_ANSWER),
        says("another protocol", "SSH-2.0-OpenSSH\r\n", NO_ANSWER),
        says("TLS", "\u{15}\u{3}\u{3}\0\u{2}\u{2}\u{28}", NO_ANSWER),
        says("HTTP/2", "\0\0\u{6}\u{4}\0\0\0\0\0\0\u{3}\0\0\0d", NO_ANSWER),
        says("nothing but zeros", &"\0".repeat(1000), NO_ANSWER),
        says("HTTP/3.0", "HTTP/3.0 200 OK\r\nContent-Length: 0\r\n\r\n", NO_ANSWER),
        says("ICY", "ICY 200 OK\r\nContent-Length: 0\r\n\r\n", NO_ANSWER),
        says("no status", "HTTP/1.1 OK\r\nContent-Length: 0\r\n\r\n", NO_ANSWER),
        says("a status of two digits", "HTTP/1.1 99 Low\r\nContent-Length: 0\r\n\r\n", NO_ANSWER),
        says("a status of four digits", "HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n", NO_ANSWER),
        says(
            "a status of no class",
            "HTTP/1.1 999 Hm\r\nContent-Length: 3\r\n\r\nabc",
            Whole(999, "abc"),
        ),
        says(
            "a switch that nobody wanted",
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
            NO_ANSWER,
        ),
        says("no colon", &ok("No colon\r\nContent-Length: 3\r\n", "abc"), NO_ANSWER),
        says("a blank before the colon", &ok("Content-Length : 3\r\n", "abc"), NO_ANSWER),
        says("a blank in a name", &ok("Con tent: 3\r\nContent-Length: 3\r\n", "abc"), NO_ANSWER),
        says("no name", &ok(": 3\r\nContent-Length: 3\r\n", "abc"), NO_ANSWER),
        says("a zero in a value", &ok("X: \0\r\nContent-Length: 3\r\n", "abc"), NO_ANSWER),
        says("a return in a value", &ok("X: a\rb\r\nContent-Length: 3\r\n", "abc"), NO_ANSWER),
        says("a folded value", &ok("X: a\r\n b\r\nContent-Length: 3\r\n", "abc"), NO_ANSWER),
        says("bare line feeds", "HTTP/1.1 200 OK\nContent-Length: 3\n\nabc", Whole(200, "abc")),
        says(
            "bytes that are no text",
            &ok("X: \u{ff}\u{fe}\r\nContent-Length: 3\r\n", "abc"),
            Whole(200, "abc"),
        ),
        says(
            "blank lines first",
            "\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
            Whole(200, "abc"),
        ),
        Case {
            name: "a head without an end",
            method: "POST",
            does: vec![
                send("HTTP/1.1 200 OK\r\n"),
                Does::Repeat("X-More: and more and more\r\n", 1 << 20),
            ],
            fate: NO_ANSWER,
        },
        Case {
            name: "a field without an end",
            method: "POST",
            does: vec![
                send("HTTP/1.1 200 OK\r\nX: "),
                Does::Repeat("more and more and more", 1 << 20),
            ],
            fate: NO_ANSWER,
        },
        Case {
            name: "a reason without an end",
            method: "POST",
            does: vec![send("HTTP/1.1 200 "), Does::Repeat("more and more and more", 1 << 20)],
            fate: NO_ANSWER,
        },
    ]
}

pub(super) fn lengths() -> Vec<Case> {
    let length = |value: &str| ok(&format!("Content-Length: {value}\r\n"), "abc");
    let both = "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n";
    let chunks = |body: &str| ok("Transfer-Encoding: chunked\r\n", body);
    let cut = |body| Cut(200, body, "answer_invalid");
    vec![
        says("two lengths", &ok("Content-Length: 3\r\nContent-Length: 4\r\n", "abc"), NO_ANSWER),
        says(
            "the same length twice",
            &ok("Content-Length: 3\r\nContent-Length: 3\r\n", "abc"),
            Whole(200, "abc"),
        ),
        says("a list of lengths", &length("3, 4"), NO_ANSWER),
        says("a negative length", &length("-3"), NO_ANSWER),
        says("a length with a sign", &length("+3"), NO_ANSWER),
        says("a length that is none", &length("0x3"), NO_ANSWER),
        says("no length in a length", &length(""), NO_ANSWER),
        says("a length beyond 64 bits", &length("18446744073709551619"), NO_ANSWER),
        then(
            "a length that is too long",
            &length("9223372036854775807"),
            Does::Close,
            Cut(200, "abc", "answer_truncated"),
        ),
        says("length and chunks", &ok(both, "3\r\nabc\r\n0\r\n\r\n"), Passes(200, "abc")),
        says(
            "a length that is not that of the chunks",
            &ok("Transfer-Encoding: chunked\r\nContent-Length: 1\r\n", "3\r\nabc\r\n0\r\n\r\n"),
            Passes(200, "abc"),
        ),
        says("a coding that is not chunked", &ok("Transfer-Encoding: x\r\n", "abc"), NO_ANSWER),
        says(
            "a coding beneath chunks",
            &ok("Transfer-Encoding: gzip, chunked\r\n", "3\r\nabc\r\n0\r\n\r\n"),
            NO_ANSWER,
        ),
        says(
            "chunks twice",
            &ok("Transfer-Encoding: chunked, chunked\r\n", "3\r\nabc\r\n0\r\n\r\n"),
            NO_ANSWER,
        ),
        then(
            "no coding, by name",
            &ok("Transfer-Encoding: identity\r\n", "abc"),
            Does::Close,
            Passes(200, "abc"),
        ),
        says("more than was said", &ok("Content-Length: 3\r\n", "abcdef"), Passes(200, "abc")),
        says("more than the last chunk", &chunks("3\r\nabc\r\n0\r\n\r\nmore"), Passes(200, "abc")),
        says(
            "two answers",
            &format!("{0}{0}", ok("Content-Length: 3\r\n", "abc")),
            Passes(200, "abc"),
        ),
        says("a chunk of no number", &chunks("3\r\nabc\r\nzz\r\nabc\r\n0\r\n\r\n"), cut("abc")),
        says(
            "a chunk of a negative number",
            &chunks("3\r\nabc\r\n-3\r\nabc\r\n0\r\n\r\n"),
            cut("abc"),
        ),
        says(
            "a chunk of 17 digits",
            &chunks("3\r\nabc\r\n10000000000000003\r\nabc\r\n0\r\n\r\n"),
            cut("abc"),
        ),
        says("a chunk that is longer", &chunks("3\r\nabcdef\r\n0\r\n\r\n"), cut("abc")),
        says("a chunk without an end", &chunks("3\r\nabc0\r\n\r\n"), cut("abc")),
        Case {
            name: "an extension without an end",
            method: "POST",
            does: vec![
                send(&chunks("3\r\nabc\r\n3;")),
                Does::Repeat("more and more and more", 1 << 20),
            ],
            fate: cut("abc"),
        },
        Case {
            name: "trailers without an end",
            method: "POST",
            does: vec![
                send(&chunks("3\r\nabc\r\n0\r\n")),
                Does::Repeat("X-More: and more\r\n", 1 << 20),
            ],
            fate: cut("abc"),
        },
    ]
}

pub(super) fn bodies_where_none_belong() -> Vec<Case> {
    let case = |name, method, text: &str, status| Case {
        name,
        method,
        does: vec![send(text), Does::Wait],
        fate: Passes(status, ""),
    };
    vec![
        case("a body of a HEAD", "HEAD", &ok("Content-Length: 3\r\n", "abc"), 200),
        case("a body of a 204", "POST", "HTTP/1.1 204 No Content\r\n\r\nabc", 204),
        case("a body of a 304", "GET", "HTTP/1.1 304 Not Modified\r\n\r\nabc", 304),
    ]
}
