//! Recorded exchanges with known answers. Owns how a recording is read; every test over the corpus
//! says how many it ran.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::read::MultiGzDecoder;
use serde::Deserialize;
use serde_json::Value;
use tokenmeter::framing::{Coding, Decoder, Framed, Framer};
use tokenmeter::provider::{RESPONSE, Reader, Reading};

/// Names another folder of recordings.
const FOLDER: &str = "TOKENMETER_RECORDINGS";

/// One exchange, as `tests/recordings/README.md` describes it.
#[derive(Debug, Deserialize)]
pub(crate) struct Recording {
    pub(crate) id: String,
    pub(crate) provider: String,
    pub(crate) api: String,
    pub(crate) streaming: bool,
    pub(crate) request: Request,
    pub(crate) response: Response,
    pub(crate) expected: Expected,
    pub(crate) about: About,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) url: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body_b64: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body_b64: Option<String>,
}

/// What the provider's own figures say.
#[derive(Debug, Deserialize)]
pub(crate) struct Expected {
    pub(crate) model: Option<String>,
    pub(crate) finish_reason: Option<Value>,
    pub(crate) reported_cost: Option<serde_json::Number>,
    pub(crate) usage_present: bool,
    pub(crate) error: Option<Value>,
    pub(crate) normalized: Normalized,
}

/// In the meaning of the ledger's columns.
#[derive(Debug, Deserialize)]
pub(crate) struct Normalized {
    #[serde(rename = "input_tokens")]
    pub(crate) input: Option<Count>,
    #[serde(rename = "output_tokens")]
    pub(crate) output: Option<Count>,
    #[serde(rename = "reasoning_tokens")]
    pub(crate) reasoning: Option<Count>,
    #[serde(rename = "cache_read_tokens")]
    pub(crate) cache_read: Option<Count>,
    #[serde(rename = "cache_write_tokens")]
    pub(crate) cache_write: Option<Count>,
    #[serde(rename = "audio_input_tokens")]
    pub(crate) audio_input: Option<Count>,
    #[serde(rename = "audio_output_tokens")]
    pub(crate) audio_output: Option<Count>,
    #[serde(rename = "total_tokens")]
    pub(crate) total: Option<Count>,
}

/// A count of tokens; some are written as `12.0`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "serde_json::Number")]
pub(crate) struct Count(pub(crate) u64);

impl TryFrom<serde_json::Number> for Count {
    type Error = std::num::ParseIntError;

    fn try_from(number: serde_json::Number) -> Result<Count, Self::Error> {
        let text = number.as_str();
        text.strip_suffix(".0").unwrap_or(text).parse().map(Count)
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct About {
    #[serde(default)]
    pub(crate) chunk_sizes: Vec<usize>,
}

impl Request {
    pub(crate) fn body(&self) -> Vec<u8> {
        decoded(self.body_b64.as_deref())
    }
}

impl Expected {
    /// In the provider's own words; Vertex can be asked for numbers.
    pub(crate) fn finish_reason(&self) -> Option<String> {
        match self.finish_reason.as_ref()? {
            Value::String(word) => Some(word.clone()),
            other => Some(other.to_string()),
        }
    }
}

impl Response {
    pub(crate) fn body(&self) -> Vec<u8> {
        decoded(self.body_b64.as_deref())
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(given, _)| given.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

fn decoded(text: Option<&str>) -> Vec<u8> {
    STANDARD.decode(text.unwrap_or_default()).unwrap()
}

/// True if `TOKENMETER_RECORDINGS` names a folder of one's own, of which nothing is known beforehand.
pub(crate) fn is_whole_corpus() -> bool {
    std::env::var_os(FOLDER).is_some()
}

/// The folder named by `TOKENMETER_RECORDINGS`, or the part of the corpus that is committed.
pub(crate) fn folder() -> PathBuf {
    std::env::var_os(FOLDER).map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/recordings"),
        PathBuf::from,
    )
}

/// All recordings of [`folder`].
pub(crate) fn recordings() -> impl Iterator<Item = Recording> + Send {
    recordings_in(&folder())
}

/// All recordings of a folder, file by file in the order of their names.
pub(crate) fn recordings_in(folder: &Path) -> impl Iterator<Item = Recording> + Send + use<> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().ends_with(".jsonl.gz"))
        .collect();
    files.sort();
    files.into_iter().flat_map(|path| {
        let reader = BufReader::new(MultiGzDecoder::new(File::open(path).unwrap()));
        reader.lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap())
    })
}

/// What is read of a recording's body, cut into pieces of one size.
pub(crate) fn read(recording: &Recording, body: &[u8], cut: usize) -> Reading {
    let content_type = recording.response.header("content-type");
    let framer = Framer::for_content_type(content_type, &RESPONSE);
    let mut decoder = Decoder::new(Coding::Identity, Framed::new(framer, Reader::new())).unwrap();
    body.chunks(cut).for_each(|piece| decoder.push(piece).unwrap());
    decoder.sink().unwrap().reading().clone()
}
