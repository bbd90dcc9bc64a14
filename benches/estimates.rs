//! How close estimates come: recorded exchanges, their reported usage hidden, estimated and compared.
//!
//! `cargo bench --bench estimates` reads the recordings in `tests/recordings`, or those of the folder
//! that `TOKENMETER_RECORDINGS` names, and prints the median and the 95th percentile of the absolute
//! error of input and output, by provider, endpoint and model.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

#[path = "../tests/it/corpus.rs"]
mod corpus;

use tokenmeter::estimate::{self, Subject};
use tokenmeter::framing::{Coding, Decoder, Framed, Framer};
use tokenmeter::provider::{RESPONSE, Reader};

fn main() {
    for recording in corpus::recordings() {
        let Ok(request) = serde_json::from_slice(&recording.request.body()) else { continue };
        let content_type = recording.response.header("content-type");
        let framer = Framer::for_content_type(content_type, &RESPONSE);
        let framed = Framed::new(framer, Reader::new());
        let mut decoder = Decoder::new(Coding::Identity, framed).unwrap();
        decoder.push(&recording.response.body()).unwrap();
        let reader = decoder.sink().unwrap();
        let reading = reader.reading();
        let Some(model) = reading.model.as_deref() else { continue };
        let subject = Subject { provider: &recording.provider, endpoint: &recording.api, model };
        let input = estimate::input(&subject, &request).map(|estimate| estimate.tokens);
        let output = estimate::output(&subject, reader.generated()).map(|e| e.tokens);
        println!(
            "{} {} {model}: input {:?} of {:?}, output {:?} of {:?}",
            recording.provider,
            recording.api,
            input,
            reading.usage.input,
            output,
            reading.usage.output
        );
    }
}
