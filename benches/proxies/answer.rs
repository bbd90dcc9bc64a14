//! Reads an answer as it comes, and compares each byte with what the provider sent. Owns the client's
//! side of HTTP/1.1 as far as it is needed. Keeps nothing of an answer but its head.

use crate::process::now;
use crate::script::{Answer, DIGITS, Script, header};

/// More than any head that is sent.
const LARGEST_HEAD: usize = 16 * 1024;

/// One answer that is coming in.
pub(crate) struct Reading<'a> {
    script: &'a Script,
    state: State,
    head: Vec<u8>,
    answer: Option<&'a Answer>,
    /// How much of the body has come.
    at: usize,
    /// Which of the answer's times comes next, and what has come of it.
    next_time: usize,
    time: u64,
}

#[derive(Clone, Copy)]
enum State {
    Head,
    Sized(usize),
    Size(usize),
    Data(usize),
    DataEnd(usize),
    End(usize),
    Over,
}

impl<'a> Reading<'a> {
    pub(crate) fn new(script: &'a Script) -> Reading<'a> {
        let (head, answer) = (Vec::new(), None);
        Reading { script, state: State::Head, head, answer, at: 0, next_time: 0, time: 0 }
    }

    /// The answer, once it is there to its end.
    pub(crate) fn whole(&self) -> Option<&'a Answer> {
        self.answer.filter(|_| matches!(self.state, State::Over))
    }

    /// How long ago each event was sent that ends in these bytes goes to `delays`.
    pub(crate) fn feed(
        &mut self,
        mut bytes: &[u8],
        arrived: u64,
        delays: &mut Vec<u64>,
    ) -> Result<(), String> {
        while !bytes.is_empty() {
            let taken = match self.state {
                State::Head => self.feed_head(bytes)?,
                State::Sized(left) => {
                    let taken = self.compare(&bytes[..left.min(bytes.len())], arrived, delays)?;
                    self.state = State::Sized(left - taken);
                    taken
                }
                State::Data(left) => {
                    let taken = self.compare(&bytes[..left.min(bytes.len())], arrived, delays)?;
                    self.state =
                        if left == taken { State::DataEnd(2) } else { State::Data(left - taken) };
                    taken
                }
                State::Size(_) | State::DataEnd(_) | State::End(_) => {
                    self.state = self.frame(bytes[0])?;
                    1
                }
                State::Over => return Err("bytes after the end".to_owned()),
            };
            bytes = &bytes[taken..];
            if matches!(self.state, State::Sized(0)) {
                self.state = State::Over;
            }
        }
        let missing = self.answer.map_or(0, |answer| answer.body.len() - self.at);
        if matches!(self.state, State::Over) && missing > 0 {
            return Err(format!("the answer ends {missing} bytes too early"));
        }
        Ok(())
    }

    /// What follows this byte of chunked framing.
    fn frame(&self, byte: u8) -> Result<State, String> {
        match (self.state, byte) {
            (State::Size(0), b'\n') => Ok(State::End(2)),
            (State::Size(size), b'\n') => Ok(State::Data(size)),
            (State::Size(size), b'\r') => Ok(State::Size(size)),
            (State::Size(size), digit) => char::from(digit)
                .to_digit(16)
                .map(|digit| State::Size(size * 16 + digit as usize))
                .ok_or_else(|| "not a chunk's size".to_owned()),
            (State::DataEnd(1), b'\n') => Ok(State::Size(0)),
            (State::DataEnd(2), b'\r') => Ok(State::DataEnd(1)),
            (State::End(2), b'\r') => Ok(State::End(1)),
            (State::End(1), b'\n') => Ok(State::Over),
            _ => Err("not a chunk's end".to_owned()),
        }
    }

    fn feed_head(&mut self, bytes: &[u8]) -> Result<usize, String> {
        let before = self.head.len();
        self.head.extend(&bytes[..bytes.len().min(LARGEST_HEAD)]);
        let Some(end) = memchr::memmem::find(&self.head, b"\r\n\r\n") else {
            let is_too_large = self.head.len() > LARGEST_HEAD;
            return if is_too_large { Err("a large head".to_owned()) } else { Ok(bytes.len()) };
        };
        self.head.truncate(end + 4);
        let said = || String::from_utf8_lossy(&self.head).into_owned();
        if !self.head.starts_with(b"HTTP/1.1 200 ") {
            return Err(said());
        }
        self.answer = Some(self.script.answer(&self.head).ok_or_else(said)?);
        let length = header(&self.head, b"content-length");
        let length = length.and_then(|length| str::from_utf8(length).ok()?.parse().ok());
        let is_chunked = header(&self.head, b"transfer-encoding") == Some(b"chunked");
        self.state = match length {
            Some(length) => State::Sized(length),
            None if is_chunked => State::Size(0),
            None => return Err(said()),
        };
        Ok(self.head.len() - before)
    }

    /// Takes bytes of the body, all or up to the next time's end.
    fn compare(
        &mut self,
        bytes: &[u8],
        arrived: u64,
        delays: &mut Vec<u64>,
    ) -> Result<usize, String> {
        let Some(answer) = self.answer else { return Err("no head".to_owned()) };
        let time = answer.times.get(self.next_time).copied().unwrap_or(usize::MAX);
        if self.at < time {
            let length = bytes.len().min(time - self.at);
            if answer.body.get(self.at..self.at + length) != Some(&bytes[..length]) {
                return Err(format!("other bytes than were sent, from {} on", self.at));
            }
            self.at += length;
            return Ok(length);
        }
        let digit = bytes[0].wrapping_sub(b'0');
        if digit > 9 {
            return Err(format!("no time at {}", self.at));
        }
        self.time = self.time * 10 + u64::from(digit);
        self.at += 1;
        if self.at == time + DIGITS {
            delays.push(arrived.saturating_sub(self.time));
            (self.next_time, self.time) = (self.next_time + 1, 0);
        }
        Ok(1)
    }
}

/// Puts the time into an event that is about to be sent.
pub(crate) fn stamp(digits: &mut [u8]) {
    let mut time = now();
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(time % 10).expect("a digit");
        time /= 10;
    }
}
