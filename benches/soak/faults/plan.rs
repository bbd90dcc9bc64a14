//! What is to happen to each call: a call has a number, and seed and number say all that both sides will do.
//! Owns the drawing of lots; knows no socket and no bytes.

/// What sort of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One JSON document with its usage.
    Chat,
    /// The same, packed with gzip.
    Gzip,
    /// A stream with its usage.
    Stream,
    /// A JSON document without usage.
    Unreported,
    /// A stream without usage.
    UnreportedStream,
    /// Anthropic's, to an upstream of its own.
    Messages,
    MessagesStream,
    Embeddings,
    /// Megabytes of embeddings, more than fit between the two sides.
    Large,
    /// `GET`, without a body.
    Models,
    /// The provider's errors: 500, 503 and 429 with `retry-after`.
    Failing,
    /// A chat to an upstream whose answers are read on when clients leave.
    Drained,
}

/// What the client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Client {
    Plain,
    TinyPieces,
    /// Does not read for a while.
    SlowReader,
    Chunked,
    /// Waits for `100 Continue`.
    Expect,
    /// Two requests in one write.
    Pipeline,
    /// Says that it will send no more, and reads.
    HalfClose,
    LeaveInHead,
    LeaveAfterHead,
    LeaveInBody,
    /// Between its request and the answer.
    LeaveBefore,
    LeaveInAnswer,
    /// Announces more than it sends, and leaves.
    TooLong,
    BadChunks,
    Malformed,
    BadTag,
    /// Over HTTP/2, as are all below.
    H2,
    H2LeaveBefore,
    H2LeaveInAnswer,
    H2LeaveInBody,
}

/// What the provider does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Provider {
    Plain,
    /// Events and all else cut anywhere.
    TinyPieces,
    /// Silent for a while, and not for too long.
    Pauses,
    /// 1xx answers before the one that counts.
    Interim,
    /// Closes the connection a moment after its answer, perhaps when it is used again.
    CloseIdle,
    /// The answer ends with the connection.
    CloseDelimited,
    /// More bytes than announced.
    Surplus,
    /// A gzip that breaks off within a message that is whole.
    TruncatedGzip,
    /// Negative, fractional, gigantic figures.
    AbsurdUsage,
    /// Answers before the request is there, and reads on.
    Early,
    /// Answers before the request is there, and closes.
    EarlyClose,
    /// Resets when it has the request's head.
    ResetInUpload,
    /// Resets when it has the request.
    ResetBeforeHead,
    ResetInHead,
    CloseInHead,
    GarbageHead,
    EndlessHead,
    StallInHead,
    ResetInBody,
    /// Closes before the end.
    Truncated,
    BadChunk,
    StallInBody,
}

/// How the answer's end is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Length,
    Chunked,
    Close,
}

/// What is to happen to a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) number: u64,
    pub(super) kind: Kind,
    pub(super) client: Client,
    pub(super) provider: Provider,
    pub(super) framing: Framing,
    /// For all that is left to chance.
    dice: u64,
}

/// Every so many numbers one is of a call over HTTP/2.
pub(super) const H2_EVERY: u64 = 6;

const KINDS: [(Kind, u64); 12] = [
    (Kind::Chat, 24),
    (Kind::Gzip, 8),
    (Kind::Stream, 24),
    (Kind::Unreported, 4),
    (Kind::UnreportedStream, 4),
    (Kind::Messages, 8),
    (Kind::MessagesStream, 8),
    (Kind::Embeddings, 6),
    (Kind::Large, 1),
    (Kind::Models, 3),
    (Kind::Failing, 5),
    (Kind::Drained, 5),
];

const CLIENTS: [(Client, u64); 16] = [
    (Client::Plain, 45),
    (Client::TinyPieces, 4),
    (Client::SlowReader, 3),
    (Client::Chunked, 5),
    (Client::Expect, 3),
    (Client::Pipeline, 4),
    (Client::HalfClose, 2),
    (Client::LeaveInHead, 3),
    (Client::LeaveAfterHead, 3),
    (Client::LeaveInBody, 4),
    (Client::LeaveBefore, 5),
    (Client::LeaveInAnswer, 7),
    (Client::TooLong, 3),
    (Client::BadChunks, 3),
    (Client::Malformed, 3),
    (Client::BadTag, 3),
];

const H2_CLIENTS: [(Client, u64); 4] = [
    (Client::H2, 60),
    (Client::H2LeaveBefore, 15),
    (Client::H2LeaveInAnswer, 15),
    (Client::H2LeaveInBody, 10),
];

pub(super) const PROVIDERS: [(Provider, u64); 22] = [
    (Provider::Plain, 45),
    (Provider::TinyPieces, 5),
    (Provider::Pauses, 4),
    (Provider::Interim, 4),
    (Provider::CloseIdle, 4),
    (Provider::CloseDelimited, 4),
    (Provider::Surplus, 2),
    (Provider::TruncatedGzip, 2),
    (Provider::AbsurdUsage, 3),
    (Provider::Early, 2),
    (Provider::EarlyClose, 2),
    (Provider::ResetInUpload, 2),
    (Provider::ResetBeforeHead, 2),
    (Provider::ResetInHead, 2),
    (Provider::CloseInHead, 2),
    (Provider::GarbageHead, 2),
    (Provider::EndlessHead, 1),
    (Provider::StallInHead, 1),
    (Provider::ResetInBody, 3),
    (Provider::Truncated, 4),
    (Provider::BadChunk, 3),
    (Provider::StallInBody, 1),
];

impl Plan {
    pub(super) fn of(seed: u64, number: u64) -> Plan {
        let mut lots = fastrand::Rng::with_seed(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut kind = draw(&KINDS, &mut lots);
        let is_h2 = number.is_multiple_of(H2_EVERY);
        let client = if is_h2 { draw(&H2_CLIENTS, &mut lots) } else { draw(&CLIENTS, &mut lots) };
        let provider = draw(&PROVIDERS, &mut lots);
        match provider {
            Provider::TruncatedGzip => kind = Kind::Gzip,
            Provider::AbsurdUsage => kind = Kind::Chat,
            // There must be something that is early.
            Provider::Early | Provider::EarlyClose | Provider::ResetInUpload
                if kind == Kind::Models =>
            {
                kind = Kind::Chat;
            }
            _ => {}
        }
        let framing = match provider {
            Provider::CloseDelimited => Framing::Close,
            Provider::Surplus => Framing::Length,
            Provider::BadChunk => Framing::Chunked,
            _ if lots.bool() || kind.streams() => Framing::Chunked,
            _ => Framing::Length,
        };
        Plan { number, kind, client, provider, framing, dice: lots.u64(..) }
    }

    /// What chance says about this, which is the same each time it is asked.
    pub(super) fn lots(&self, about: &str) -> fastrand::Rng {
        let hash = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        fastrand::Rng::with_seed(about.bytes().fold(self.dice, hash))
    }

    /// The request's body is large, and slow to come, so that the answer can come before its end.
    pub(super) fn is_upload(&self) -> bool {
        matches!(self.provider, Provider::Early | Provider::EarlyClose | Provider::ResetInUpload)
    }
}

impl Kind {
    pub(super) fn streams(self) -> bool {
        matches!(self, Kind::Stream | Kind::UnreportedStream | Kind::MessagesStream)
    }

    pub(super) fn reports(self) -> bool {
        !matches!(self, Kind::Unreported | Kind::UnreportedStream | Kind::Models | Kind::Failing)
    }
}

impl Client {
    /// Sends its whole request in good order and reads the whole answer.
    pub(super) fn stays(self) -> bool {
        matches!(
            self,
            Client::Plain
                | Client::TinyPieces
                | Client::SlowReader
                | Client::Chunked
                | Client::Expect
                | Client::Pipeline
                | Client::H2
        )
    }

    /// What it sends is no request that could go anywhere.
    pub(super) fn is_refused(self) -> bool {
        matches!(self, Client::Malformed | Client::BadTag)
    }
}

fn draw<T: Copy>(urn: &[(T, u64)], lots: &mut fastrand::Rng) -> T {
    let all: u64 = urn.iter().map(|(_, share)| share).sum();
    let mut left = lots.u64(..all);
    for (drawn, share) in urn {
        match left.checked_sub(*share) {
            Some(rest) => left = rest,
            None => return *drawn,
        }
    }
    unreachable!("less is left than all shares together")
}
