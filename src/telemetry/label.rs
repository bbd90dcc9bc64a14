//! By what calls are told apart in metrics. Owns the labels' names and what of a call they show; knows
//! nothing of how many values there may be.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde_json::Value;

use crate::nearest::nearest;
use crate::record::Record;

/// One label.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Label {
    Upstream,
    Provider,
    Endpoint,
    /// The model that answered, else the one that was asked for.
    Model,
    Operation,
    User,
    /// A name in the metadata, and what the label is called.
    Metadata {
        name: String,
        label: String,
    },
}

/// Not a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownLabel(String);

impl fmt::Display for UnknownLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UnknownLabel {}

const METADATA: &str = "metadata.";

impl Label {
    const PLAIN: [Label; 6] = [
        Label::Upstream,
        Label::Provider,
        Label::Endpoint,
        Label::Model,
        Label::Operation,
        Label::User,
    ];

    /// As it stands beside figures.
    pub fn name(&self) -> &str {
        match self {
            Label::Upstream => "upstream",
            Label::Provider => "provider",
            Label::Endpoint => "endpoint",
            Label::Model => "model",
            Label::Operation => "operation",
            Label::User => "user",
            Label::Metadata { label, .. } => label,
        }
    }

    /// Whether callers choose its values.
    pub(super) fn is_chosen_by_callers(&self) -> bool {
        matches!(self, Label::Model | Label::Operation | Label::User | Label::Metadata { .. })
    }

    /// Whether durations are told apart by it.
    pub(super) fn is_of_latency(&self) -> bool {
        matches!(self, Label::Upstream | Label::Provider | Label::Endpoint | Label::Model)
    }

    /// What a call has here; empty where it has nothing, and where callers choose it and the provider did not
    /// let this one in: nobody without a key is to choose what monitoring has to keep.
    pub(super) fn of<'r>(&self, record: &'r Record) -> Cow<'r, str> {
        if self.is_chosen_by_callers() && matches!(record.status, Some(401 | 403)) {
            return Cow::Borrowed("");
        }
        let text = |text: &'r Option<String>| Cow::Borrowed(text.as_deref().unwrap_or_default());
        match self {
            Label::Upstream => Cow::Borrowed(&record.upstream),
            Label::Provider => Cow::Borrowed(&record.provider),
            Label::Endpoint => Cow::Borrowed(&record.endpoint),
            Label::Model if record.model.is_some() => text(&record.model),
            Label::Model => text(&record.model_requested),
            Label::Operation => text(&record.operation),
            Label::User => text(&record.user),
            Label::Metadata { name, .. } => {
                match record.metadata.as_ref().and_then(|all| all.get(name)) {
                    None | Some(Value::Null) => Cow::Borrowed(""),
                    Some(Value::String(text)) => Cow::Borrowed(text),
                    Some(other) => Cow::Owned(other.to_string()),
                }
            }
        }
    }
}

impl FromStr for Label {
    type Err = UnknownLabel;

    fn from_str(text: &str) -> Result<Label, UnknownLabel> {
        if let Some(label) = Label::PLAIN.into_iter().find(|label| label.name() == text) {
            return Ok(label);
        }
        if let Some(name) = text.strip_prefix(METADATA).filter(|name| !name.is_empty()) {
            // What Prometheus takes as the name of a label.
            let fits = |letter: char| letter.is_ascii_alphanumeric();
            let label: String =
                name.chars().map(|letter| if fits(letter) { letter } else { '_' }).collect();
            let label = format!("metadata_{}", label.to_lowercase());
            return Ok(Label::Metadata { name: name.to_owned(), label });
        }
        if text == "session" {
            let why = "`session` is no label: each would be a series of its own, for ever";
            return Err(UnknownLabel(why.to_owned()));
        }
        let names = Label::PLAIN.each_ref().map(Label::name);
        let hint =
            nearest(text, names).map_or_else(String::new, |name| format!("; was `{name}` meant"));
        let known = names.join(", ");
        Err(UnknownLabel(format!(
            "`{text}` is no label{hint}. Known are {known} and metadata.NAME"
        )))
    }
}
