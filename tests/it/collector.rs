//! A collector that keeps what it is sent: OTLP over HTTP, read with the official protobuf messages. The
//! test says how it answers.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use flate2::read::GzDecoder;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

use super::rig::PATIENCE;

/// How requests are answered from now on.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Takes,
    /// A status line's rest and further header lines, each with its end.
    Refuses(&'static str, &'static str),
    /// Takes all but so many, and says that.
    Rejects(i64, &'static str),
    /// Nothing comes.
    Silence,
}

#[derive(Clone, Debug)]
pub(crate) struct Got {
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

#[derive(Debug)]
struct State {
    answer: Mutex<Answer>,
    changed: Condvar,
    got: Mutex<Vec<Got>>,
}

pub(crate) struct Collector {
    address: SocketAddr,
    state: Arc<State>,
}

impl Collector {
    pub(crate) fn new() -> Collector {
        Collector::that(Answer::Takes)
    }

    pub(crate) fn that(answer: Answer) -> Collector {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state =
            State { answer: Mutex::new(answer), changed: Condvar::new(), got: Mutex::default() };
        let state = Arc::new(state);
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let state = Arc::clone(&shared);
                thread::spawn(move || state.serve(&stream.unwrap()));
            }
        });
        Collector { address, state }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The `[otlp]` section that sends to it; metrics only at the end.
    pub(crate) fn section(&self, more: &str) -> String {
        format!("[otlp]\nendpoint = \"{}\"\ninterval = \"1h\"\n{more}\n", self.url())
    }

    pub(crate) fn answers(&self, answer: Answer) {
        *self.state.answer.lock().unwrap() = answer;
        self.state.changed.notify_all();
    }

    pub(crate) fn got(&self, path: &str) -> Vec<Got> {
        let got = self.state.got.lock().unwrap();
        got.iter().filter(|got| got.path == path).cloned().collect()
    }

    pub(crate) fn spans(&self) -> Vec<Span> {
        let requests = self.got("/v1/traces");
        let requests =
            requests.iter().map(|got| ExportTraceServiceRequest::decode(&*got.body).unwrap());
        let scopes = requests.flat_map(|request| request.resource_spans);
        scopes.flat_map(|spans| spans.scope_spans).flat_map(|scope| scope.spans).collect()
    }

    /// The attributes of the process that sent spans last.
    pub(crate) fn resource(&self) -> Vec<KeyValue> {
        let last = self.got("/v1/traces").pop().unwrap();
        let request = ExportTraceServiceRequest::decode(&*last.body).unwrap();
        request.resource_spans[0].resource.clone().unwrap().attributes
    }

    /// The metrics that were sent last, which are of the whole time.
    pub(crate) fn metrics(&self) -> Metrics {
        let last = self.got("/v1/metrics").pop().expect("metrics were sent");
        let request = ExportMetricsServiceRequest::decode(&*last.body).unwrap();
        let scopes = request.resource_metrics.into_iter().flat_map(|all| all.scope_metrics);
        Metrics(scopes.flat_map(|scope| scope.metrics).collect())
    }
}

impl State {
    fn serve(&self, stream: &TcpStream) -> Option<()> {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut reader = BufReader::new(stream);
        loop {
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                if reader.read_line(&mut head).ok()? == 0 {
                    return None;
                }
            }
            let head = head.to_ascii_lowercase();
            let path = head.split(' ').nth(1)?.to_owned();
            let mut body = vec![0; value(&head, "content-length")?.parse().ok()?];
            reader.read_exact(&mut body).ok()?;
            if value(&head, "content-encoding") == Some("gzip") {
                let mut plain = Vec::new();
                GzDecoder::new(&*body).read_to_end(&mut plain).unwrap();
                body = plain;
            }
            self.got.lock().unwrap().push(Got { path, head, body });
            let mut answer = self.answer.lock().unwrap();
            while matches!(*answer, Answer::Silence) {
                answer = self.changed.wait(answer).unwrap();
            }
            let answer = answer.clone();
            let bytes = answer.bytes();
            let mut stream = stream;
            stream.write_all(&bytes).ok()?;
        }
    }
}

impl Answer {
    fn bytes(&self) -> Vec<u8> {
        let (status, fields, body) = match self {
            Answer::Takes | Answer::Silence => ("200 OK", "", Vec::new()),
            Answer::Refuses(status, fields) => (*status, *fields, Vec::new()),
            Answer::Rejects(rejected_spans, words) => {
                let error_message = (*words).to_owned();
                let partial =
                    ExportTracePartialSuccess { rejected_spans: *rejected_spans, error_message };
                let answer = ExportTraceServiceResponse { partial_success: Some(partial) };
                ("200 OK", "Content-Type: application/x-protobuf\r\n", answer.encode_to_vec())
            }
        };
        let head = format!("HTTP/1.1 {status}\r\n{fields}Content-Length: {}\r\n\r\n", body.len());
        [head.into_bytes(), body].concat()
    }
}

fn value<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().filter_map(|line| line.split_once(": ")).find(|(it, _)| *it == name).map(|it| it.1)
}

/// A value as text; numbers as they are written.
pub(crate) fn text(value: Option<&AnyValue>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::BoolValue(truth)) => truth.to_string(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        Some(Value::ArrayValue(list)) => {
            list.values.iter().map(|value| text(Some(value))).collect::<Vec<_>>().join(",")
        }
        other => panic!("{other:?}"),
    }
}

/// The attribute of that name.
pub(crate) fn attribute(attributes: &[KeyValue], name: &str) -> Option<String> {
    attributes.iter().find(|pair| pair.key == name).map(|pair| text(pair.value.as_ref()))
}

/// What was told at one time.
#[derive(Debug)]
pub(crate) struct Metrics(Vec<Metric>);

/// One set of attributes of an instrument, with its sum and, of a histogram, its count.
#[derive(Clone, Debug)]
pub(crate) struct Point {
    pub(crate) attributes: Vec<KeyValue>,
    pub(crate) sum: f64,
    pub(crate) count: u64,
    pub(crate) bounds: Vec<f64>,
}

impl Metrics {
    pub(crate) fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.0.iter().map(|metric| metric.name.as_str()).collect();
        names.sort_unstable();
        names
    }

    pub(crate) fn points(&self, name: &str) -> Vec<Point> {
        let Some(metric) = self.0.iter().find(|metric| metric.name == name) else {
            return Vec::new();
        };
        match metric.data.clone().unwrap() {
            Data::Sum(sum) => {
                assert!(sum.is_monotonic);
                let point =
                    |point: opentelemetry_proto::tonic::metrics::v1::NumberDataPoint| Point {
                        attributes: point.attributes,
                        #[allow(clippy::cast_precision_loss)]
                        sum: match point.value.unwrap() {
                            number_data_point::Value::AsDouble(sum) => sum,
                            number_data_point::Value::AsInt(sum) => sum as f64,
                        },
                        count: 0,
                        bounds: Vec::new(),
                    };
                sum.data_points.into_iter().map(point).collect()
            }
            Data::Histogram(histogram) => histogram
                .data_points
                .into_iter()
                .map(|point| Point {
                    attributes: point.attributes,
                    sum: point.sum.unwrap(),
                    count: point.count,
                    bounds: point.explicit_bounds,
                })
                .collect(),
            other => panic!("{other:?}"),
        }
    }

    /// Of the points with these attributes.
    pub(crate) fn sum(&self, name: &str, with: &[(&str, &str)]) -> f64 {
        let wanted = |point: &Point| {
            with.iter()
                .all(|(name, value)| attribute(&point.attributes, name).as_deref() == Some(*value))
        };
        self.points(name).into_iter().filter(wanted).map(|point| point.sum).sum()
    }

    pub(crate) fn count(&self, name: &str) -> u64 {
        self.points(name).iter().map(|point| point.count).sum()
    }
}
