//! What providers send, one file a dialect. Owns the knowledge of endpoints, of where usage stands in
//! a document and of what each provider's figures include; knows neither prices nor HTTP.
//!
//! A dialect is recognised by the shape of what arrives, at its documented place, never by the route
//! alone. Reading cannot fail: what is not understood is not read.

mod again;
mod anthropic;
mod bedrock;
mod cohere;
mod endpoint;
mod gemini;
mod generated;
mod ollama;
mod openai;
mod reader;
pub mod realtime;
mod request;
mod selection;
pub mod stream_usage;
mod texts;
mod value;

pub use again::{read_again, tells_more_than_columns};
pub use endpoint::{Endpoint, PathFacts};
pub use generated::{Generated, Kind, Segment};
pub use reader::{BatchLine, Reader, Reading, is_read_header};
pub use request::{RequestFacts, RequestReader};
pub use selection::{REQUEST, RESPONSE};
