//! What an input says: what a client does on its connection and what a provider does on each of its own. Owns the
//! form; knows nothing of what comes of it.
//!
//! Bytes are what is sent, first by the client. A mark (255) and a letter is something else that is done, so that
//! whatever is inserted or taken out leaves a script.

/// Before a letter.
const MARK: u8 = 255;

/// Steps of one script altogether.
const MOST_STEPS: usize = 200;

/// What one side does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Send(Vec<u8>),
    /// Until all that can happen has happened.
    Pause,
    /// Seconds.
    Sleep(u64),
    /// No more is sent.
    Finish,
    /// Nothing is sent or read any more.
    Leave,
    StopReading,
    ReadOn,
    /// A provider: until the next request's head is there. A client: until something is heard.
    AwaitHead,
    /// A provider: until the next request is there.
    AwaitRequest,
}

#[derive(Debug)]
pub struct Script {
    /// Bytes that the two connections hold.
    pub client_room: usize,
    pub provider_room: usize,
    /// Bytes that are sent at once, if not all.
    pub client_pieces: Option<usize>,
    pub provider_pieces: Option<usize>,
    pub client: Vec<Step>,
    /// A provider's connections, in their order; `None` for one that is refused.
    pub provider: Vec<Option<Vec<Step>>>,
}

impl Script {
    pub fn read(data: &[u8]) -> Option<Script> {
        let ([rooms, pieces], rest) = data.split_first_chunk::<2>()?;
        let room = |bits: u8| [64 * 1024, 4096, 257, 64][usize::from(bits & 3)];
        let cut = |bits: u8| [None, Some(1), Some(3), Some(61)][usize::from(bits & 3)];
        let mut script = Script {
            client_room: room(*rooms),
            provider_room: room(*rooms >> 2),
            client_pieces: cut(*pieces),
            provider_pieces: cut(*pieces >> 2),
            client: Vec::new(),
            provider: Vec::new(),
        };
        let mut steps = 0;
        let mut bytes = rest.iter().copied();
        let mut text = Vec::new();
        let mut is_client = true;
        while steps < MOST_STEPS {
            let byte = bytes.next();
            let letter = match byte {
                Some(MARK) => bytes.next(),
                Some(byte) => {
                    text.push(byte);
                    continue;
                }
                None => None,
            };
            if letter == Some(MARK) {
                text.push(MARK);
                continue;
            }
            let mut done = Vec::new();
            if !text.is_empty() {
                done.push(Step::Send(std::mem::take(&mut text)));
            }
            done.extend(letter.and_then(step));
            steps += done.len();
            if is_client {
                script.client.extend(done);
            } else if let Some(Some(connection)) = script.provider.last_mut() {
                connection.extend(done);
            }
            match letter {
                Some(b'c') => is_client = true,
                Some(b'p') => {
                    is_client = false;
                    script.provider.push(Some(Vec::new()));
                }
                Some(b'n') => {
                    is_client = false;
                    script.provider.push(None);
                }
                Some(_) => steps += 1,
                None => break,
            }
        }
        Some(script)
    }

    /// Nobody leaves before the end, or is slow.
    pub fn is_patient(&self) -> bool {
        let steps = self.client.iter().chain(self.provider.iter().flatten().flatten());
        let slept: u64 = steps
            .clone()
            .map(|step| match step {
                Step::Sleep(seconds) => *seconds,
                // What is sent byte by byte takes a millisecond each.
                Step::Send(_) => 1,
                Step::AwaitHead | Step::AwaitRequest => 2,
                _ => 0,
            })
            .sum();
        let is_odd = |step: &Step| matches!(step, Step::Finish | Step::Leave | Step::StopReading);
        let provider_reads = steps.clone().all(|step| *step != Step::StopReading);
        slept < 10 && provider_reads && !self.client.iter().any(is_odd)
    }
}

fn step(letter: u8) -> Option<Step> {
    Some(match letter {
        b'|' => Step::Pause,
        b'w' => Step::Sleep(1),
        b'W' => Step::Sleep(50),
        b'x' => Step::Finish,
        b'X' => Step::Leave,
        b's' => Step::StopReading,
        b'r' => Step::ReadOn,
        b'h' => Step::AwaitHead,
        b'q' => Step::AwaitRequest,
        b'Z' => Step::Send(vec![b'z'; 10 * 1024]),
        _ => return None,
    })
}
