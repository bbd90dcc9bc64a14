//! HTTP/2 clients that mean harm, frame by frame: floods of resets, heads, settings and of frames that ask for
//! nothing, heads that are larger than they look, streams whose answers are never taken. The program bounds what
//! each may cost, neighbours notice nothing, and nothing stays open.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::siege::Siege;
use super::trial::wait_until;

const MIB: u64 = 1 << 20;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const PRIORITY: u8 = 0x2;
const RST_STREAM: u8 = 0x3;
const SETTINGS: u8 = 0x4;
const PING: u8 = 0x6;
const GOAWAY: u8 = 0x7;
const WINDOW_UPDATE: u8 = 0x8;
const CONTINUATION: u8 = 0x9;
const UNKNOWN: u8 = 0xbe;

const END_STREAM: u8 = 0x1;
const ACK: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

const CANCEL: u32 = 0x8;
const ENHANCE_YOUR_CALM: u32 = 0xb;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// HPACK: a text without Huffman's code, its length as a number of a 7-bit prefix.
fn text(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    match u8::try_from(text.len()) {
        Ok(length) if length < 127 => bytes.push(length),
        _ => {
            bytes.push(127);
            let mut left = text.len() - 127;
            while left >= 128 {
                bytes.push(u8::try_from(left % 128).unwrap() | 128);
                left /= 128;
            }
            bytes.push(u8::try_from(left).unwrap());
        }
    }
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

/// HPACK: a field that no table remembers.
fn field(name: &str, value: &str) -> Vec<u8> {
    [vec![0], text(name), text(value)].concat()
}

/// HPACK: the fields that every request has. 0x82, 0x83 and 0x86 are GET, POST and http in the static table.
fn request(method: u8, path: &str) -> Vec<u8> {
    [vec![method, 0x86, 0x04], text(path), vec![0x01], text("proxy.example")].concat()
}

/// HPACK: what was remembered last.
const NAMED: u8 = 0xbe;

const GET: u8 = 0x82;
const POST: u8 = 0x83;

fn get(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &request(GET, path))
}

/// The number of a client's n-th stream.
fn stream(number: u32) -> u32 {
    2 * number + 1
}

/// What the other side has said.
#[derive(Clone, Debug, Default)]
struct Heard {
    /// Streams that have a head of an answer.
    heads: Vec<(u32, Vec<u8>)>,
    /// Streams that were reset, and why.
    resets: Vec<(u32, u32)>,
    goaway: Option<u32>,
    data: u64,
    /// Answers to frames that ask for one.
    acks: usize,
    is_closed: bool,
}

/// A client that writes what it likes.
struct Raw {
    stream: TcpStream,
    heard: Arc<Mutex<Heard>>,
    reading: Option<JoinHandle<()>>,
}

impl Raw {
    /// Reads what comes.
    fn connect(address: SocketAddr, settings: &[(u16, u32)]) -> Raw {
        let mut raw = Raw::deaf(address, settings);
        let (mut stream, heard) = (raw.stream.try_clone().unwrap(), Arc::clone(&raw.heard));
        raw.reading = Some(thread::spawn(move || {
            while next_frame(&mut stream, &heard).is_some() {}
            heard.lock().unwrap().is_closed = true;
        }));
        raw
    }

    /// Reads nothing.
    fn deaf(address: SocketAddr, settings: &[(u16, u32)]) -> Raw {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        let settings: Vec<u8> = settings
            .iter()
            .flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat())
            .collect();
        stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &settings)].concat()).unwrap();
        Raw { stream, heard: Arc::default(), reading: None }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    fn heard(&self) -> Heard {
        self.heard.lock().unwrap().clone()
    }

    /// Sends again and again until the other side has closed; false if it took them all.
    fn flood(&mut self, times: u32, mut bytes: impl FnMut(u32) -> Vec<u8>) -> bool {
        const AT_ONCE: usize = 64 << 10;
        let mut batch = Vec::with_capacity(2 * AT_ONCE);
        for number in 0..times {
            batch.extend_from_slice(&bytes(number));
            if batch.len() >= AT_ONCE || number + 1 == times {
                match self.stream.write_all(&batch) {
                    Ok(()) => batch.clear(),
                    Err(error) => {
                        // It does not hang: it has closed.
                        assert_ne!(error.kind(), ErrorKind::WouldBlock, "{error}");
                        return true;
                    }
                }
            }
        }
        false
    }

    /// Waits until the other side has closed, and answers why it said it did.
    fn wait_closed(mut self) -> Option<u32> {
        let _ = self.stream.shutdown(Shutdown::Write);
        self.reading.take().unwrap().join().unwrap();
        self.heard().goaway
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

/// Takes note of one frame; nothing if there are no more.
fn next_frame(stream: &mut TcpStream, heard: &Mutex<Heard>) -> Option<()> {
    let mut begin = [0; 9];
    stream.read_exact(&mut begin).ok()?;
    let length = u32::from_be_bytes([0, begin[0], begin[1], begin[2]]);
    let mut payload = vec![0; usize::try_from(length).unwrap()];
    stream.read_exact(&mut payload).ok()?;
    let number = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
    let id = u32::from_be_bytes(begin[5..9].try_into().unwrap());
    let mut heard = heard.lock().unwrap();
    match begin[3] {
        HEADERS => heard.heads.push((id, payload)),
        RST_STREAM => heard.resets.push((id, number(0))),
        GOAWAY => heard.goaway = heard.goaway.filter(|&code| code != 0).or(Some(number(4))),
        DATA => heard.data += u64::from(length),
        SETTINGS | PING if begin[4] & ACK != 0 => heard.acks += 1,
        _ => {}
    }
    Some(())
}

/// CVE-2023-44487: every stream is reset as soon as it is opened, so that the limit on open ones never counts.
#[test]
fn streams_that_are_reset_at_once_end_the_connection() {
    let siege = Siege::start("");
    let reason = siege.bear(16 * MIB, || {
        let mut raw = Raw::connect(siege.address(), &[]);
        let is_over = raw.flood(20_000, |number| {
            let id = stream(number);
            [get(id, &format!("/hang/{number}")), frame(RST_STREAM, 0, id, &CANCEL.to_be_bytes())]
                .concat()
        });
        assert!(is_over, "20,000 resets are borne");
        raw.wait_closed()
    });
    assert_eq!(reason, Some(ENHANCE_YOUR_CALM));
    let rows = siege.reckon("/hang");
    assert!(rows.len() < 2_000, "{} calls were begun", rows.len());
    assert!(rows.iter().all(|row| row["outcome"] == "client_closed"), "{rows:?}");
}

/// Each reset comes when its call has reached the provider: those are calls, and every one has its row.
#[test]
fn calls_that_are_reset_one_by_one_leave_rows_and_nothing_else() {
    let siege = Siege::start("");
    siege.bear(16 * MIB, || {
        let mut raw = Raw::connect(siege.address(), &[]);
        for number in 0..150 {
            let path = format!("/hang/{number}");
            raw.send(&get(stream(number), &path));
            wait_until("it is there", || siege.origin.targets().contains(&path));
            raw.send(&frame(RST_STREAM, 0, stream(number), &CANCEL.to_be_bytes()));
        }
        siege.running.wait_idle();
        wait_until("they are cancelled", || siege.origin.connections() <= 2);
    });
    let rows = siege.reckon("/hang");
    assert_eq!(rows.len(), 150);
    assert!(rows.iter().all(|row| row["outcome"] == "client_closed"), "{rows:?}");
}

/// CVE-2025-8671: frames that make the server itself reset the streams, while their calls go on.
#[test]
fn streams_that_the_server_is_made_to_reset_end_the_connection() {
    let siege = Siege::start("");
    siege.bear(24 * MIB, || {
        let mut raw = Raw::connect(siege.address(), &[]);
        let is_over = raw.flood(20_000, |number| {
            let id = stream(number);
            // A window that grows beyond all bounds is an error of the stream.
            let too_wide = 0x7fff_ffff_u32.to_be_bytes();
            [get(id, &format!("/hang/{number}")), frame(WINDOW_UPDATE, 0, id, &too_wide)].concat()
        });
        assert!(is_over, "20,000 resets are made");
        assert_eq!(raw.wait_closed(), Some(ENHANCE_YOUR_CALM));
    });
    let rows = siege.reckon("/hang");
    assert!(rows.len() < 5_000, "{} calls were begun", rows.len());
}

/// CVE-2024-27316: a head that goes on and on in CONTINUATION frames.
#[test]
fn a_head_without_an_end_ends_the_connection() {
    let siege = Siege::start("");
    let fields: [(&str, Vec<u8>); 3] = [
        ("fields", field("x-more", &"a".repeat(1_000))),
        ("the start of a field", [vec![0], text("x-more"), vec![127, 0xff, 0xff, 0x3f]].concat()),
        ("nothing", Vec::new()),
    ];
    for (what, payload) in fields {
        siege.bear(16 * MIB, || {
            let mut raw = Raw::connect(siege.address(), &[]);
            raw.send(&frame(HEADERS, END_STREAM, 1, &request(GET, "/never")));
            let more = frame(CONTINUATION, 0, 1, &payload);
            assert!(raw.flood(2_000_000, |_| more.clone()), "{what}: they are borne");
            let reason = raw.wait_closed();
            assert!(reason.is_some_and(|reason| reason != 0), "{what}: {reason:?}");
        });
    }
    assert!(siege.reckon("/never").is_empty());
}

/// Frames of a body without a byte are not held back by any window.
#[test]
fn frames_of_a_body_without_a_byte_end_the_connection() {
    for provider in ["/hang", "/v1/chat/completions"] {
        let siege = Siege::start("");
        siege.bear(16 * MIB, || {
            let mut raw = Raw::connect(siege.address(), &[]);
            raw.send(&frame(HEADERS, END_HEADERS, 1, &request(POST, provider)));
            let nothing = frame(DATA, 0, 1, &[]);
            assert!(raw.flood(3_000_000, |_| nothing.clone()), "{provider}: they are borne");
            assert_eq!(raw.wait_closed(), Some(ENHANCE_YOUR_CALM), "{provider}");
        });
        let before = siege.rows("/hang").len();
        assert!(siege.reckon("/hang").len() <= 1, "{before}");
    }
}

/// Frames that cost nothing to send, some of which must be answered. They are no use of a connection: it ends
/// when its time is over, as it would in silence.
#[test]
fn frames_that_ask_for_nothing_keep_no_connection_open() {
    let siege = Siege::start("timeouts.keep_alive = \"1s\"\ntimeouts.request_head = \"1s\"\n");
    let frames: [(&str, Vec<u8>); 6] = [
        ("pings", frame(PING, 0, 0, &[7; 8])),
        ("answers to pings", frame(PING, ACK, 0, &[7; 8])),
        ("settings", frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100])),
        ("priorities", frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 9])),
        ("windows", frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        ("frames of no known kind", frame(UNKNOWN, 0, 0, &[0; 100])),
    ];
    for (what, bytes) in frames {
        for has_called in [false, true] {
            siege.bear(12 * MIB, || {
                let mut raw = Raw::connect(siege.address(), &[]);
                if has_called {
                    raw.send(&get(1, "/big/1"));
                    wait_until("its answer", || raw.heard().data == 1);
                }
                assert!(raw.flood(u32::MAX, |_| bytes.clone()), "{what}");
                raw.wait_closed();
            });
        }
    }
}

/// Whoever floods and reads no answers is held back, since the answers have nowhere to go.
#[test]
fn answers_that_nobody_reads_hold_back_who_asks_for_them() {
    let siege = Siege::start("timeouts.keep_alive = \"2s\"\ntimeouts.request_head = \"2s\"\n");
    for bytes in [frame(PING, 0, 0, &[7; 8]), frame(SETTINGS, 0, 0, &[])] {
        siege.bear(12 * MIB, || {
            let mut raw = Raw::deaf(siege.address(), &[]);
            raw.stream.set_write_timeout(Some(Duration::from_secs(30))).unwrap();
            assert!(raw.flood(u32::MAX, |_| bytes.clone()));
        });
    }
}

/// A window of nothing: answers wait in the provider, not here, and not for ever.
#[test]
fn streams_whose_answers_are_never_taken_hold_the_provider_back_and_end() {
    let siege = Siege::start("timeouts.idle = \"5s\"\n");
    // SETTINGS_INITIAL_WINDOW_SIZE
    for (number, window) in [0, 1, 65_535].into_iter().enumerate() {
        let sent = siege.origin.sent();
        siege.bear(40 * MIB, || {
            let mut raw = Raw::connect(siege.address(), &[(4, window)]);
            for of in 0..100 {
                raw.send(&get(stream(of), &format!("/big/20000000/{number}/{of}")));
            }
            wait_until("all are answered", || raw.heard().heads.len() == 100);
            // What the kernel's buffers take of a hundred connections is not little.
            let taken = siege.origin.sent_at_last() - sent;
            assert!(taken < 1_500 * MIB, "{taken}");
            siege.running.wait_idle();
        });
    }
    let rows = siege.reckon("/big");
    assert_eq!(rows.len(), 300);
    assert!(rows.iter().all(|row| row["outcome"] == "client_closed"), "{:?}", rows[0]);
    wait_until("their connections are closed", || siege.origin.connections() <= 2);
}

/// All windows wide open, and nothing is read: what is taken of the answers is bounded by the connection.
#[test]
fn a_client_with_wide_windows_that_does_not_read_is_held_back_and_closed() {
    let siege = Siege::start("timeouts.idle = \"5s\"\n");
    siege.bear(40 * MIB, || {
        let most = 0x7fff_ffff;
        let mut raw = Raw::deaf(siege.address(), &[(4, most)]);
        raw.send(&frame(WINDOW_UPDATE, 0, 0, &(most - 65_535).to_be_bytes()));
        for of in 0..100 {
            raw.send(&get(stream(of), &format!("/big/20000000/{of}")));
        }
        siege.origin.sent_at_last();
        siege.running.wait_idle();
    });
    let rows = siege.reckon("/big");
    assert!(rows.iter().all(|row| row["outcome"] == "client_closed"), "{:?}", rows[0]);
}

/// Heads that are over `limits.request_head` when they are unpacked, however small they come.
#[test]
fn heads_that_unpack_to_more_than_the_limit_are_refused() {
    let siege = Siege::start("");
    let plain = field("x-large", &"a".repeat(70_000));
    // Remembered once, named again and again: a byte stands for 4 KB.
    let remembered = [vec![0x40], text("x"), text(&"a".repeat(4_000))].concat();
    let bomb = [remembered.clone(), vec![NAMED; 12_000]].concat();
    let modest = [remembered, vec![NAMED; 20]].concat();
    for (what, fields) in [("plain", plain), ("bomb", bomb), ("modest", modest)] {
        siege.bear(16 * MIB, || {
            for times in [1, 20] {
                let mut raw = Raw::connect(siege.address(), &[]);
                for of in 0..times {
                    let block = [request(GET, "/never"), fields.clone()].concat();
                    let (first, rest) = block.split_at(block.len().min(16_000));
                    let ends = if rest.is_empty() { END_HEADERS } else { 0 };
                    let mut bytes = frame(HEADERS, END_STREAM | ends, stream(of), first);
                    for (at, part) in rest.chunks(16_000).enumerate() {
                        let is_last = (at + 1) * 16_000 >= rest.len();
                        let ends = if is_last { END_HEADERS } else { 0 };
                        bytes.extend(frame(CONTINUATION, ends, stream(of), part));
                    }
                    let _ = raw.stream.write_all(&bytes);
                }
                wait_until("each is refused, or the connection", || {
                    let heard = raw.heard();
                    let count = usize::try_from(times).unwrap();
                    heard.is_closed || heard.heads.len() + heard.resets.len() >= count
                });
                let heard = raw.heard();
                println!(
                    "{what}, {times}: {:?} {:?} {:?}",
                    heard.goaway, heard.resets, heard.heads
                );
                for (_, head) in &heard.heads {
                    // `:status` 431 as HPACK has it with Huffman's code, and then as remembered.
                    let is_431 =
                        head.starts_with(&[0x48, 0x83, 0x69, 0x90, 0xff]) || head == &[0xbe];
                    assert!(is_431, "{head:x?}");
                }
            }
        });
    }
    assert!(siege.reckon("/never").is_empty());
}
