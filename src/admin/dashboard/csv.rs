//! Tables as files for spreadsheets, with every figure as the API gives it. Owns their lines; what keeps a
//! spreadsheet from running a client's text is the archive's.

use std::borrow::Cow;

use serde_json::Value;

use crate::archive::inert;
use crate::ledger::{Group, GroupKey, Totals};

/// A file in the making.
#[derive(Debug)]
pub(super) struct Sheet(Vec<Vec<String>>);

impl Sheet {
    pub(super) fn new<'a>(titles: impl IntoIterator<Item = &'a str>) -> Sheet {
        Sheet(vec![titles.into_iter().map(|title| inert(title).into_owned()).collect()])
    }

    /// Groups by some keys, with all figures.
    pub(super) fn of_groups(keys: &[GroupKey], groups: &[Group]) -> Sheet {
        let titles = keys.iter().map(ToString::to_string).chain(figures(&Totals::default()).0);
        let mut sheet = Sheet(vec![titles.map(|title| inert(&title).into_owned()).collect()]);
        for group in groups {
            let keys = keys.iter().map(|key| text(group.key.get(&key.to_string())));
            sheet.0.push(keys.chain(figures(&group.totals).1).collect());
        }
        sheet
    }

    /// A line of values, each as JSON has it.
    pub(super) fn push(&mut self, values: impl IntoIterator<Item = Value>) {
        self.0.push(values.into_iter().map(|value| text(Some(&value))).collect());
    }

    pub(super) fn bytes(self) -> Vec<u8> {
        let mut builder = csv::WriterBuilder::new();
        builder.terminator(csv::Terminator::CRLF).flexible(true);
        let mut out = builder.from_writer(Vec::new());
        for line in self.0 {
            // Memory takes everything.
            let _ = out.write_record(line);
        }
        out.into_inner().unwrap_or_default()
    }
}

/// The names of all figures, and what they are.
pub(super) fn figures(totals: &Totals) -> (Vec<String>, Vec<String>) {
    let Ok(Value::Object(all)) = serde_json::to_value(totals) else { return Default::default() };
    all.into_iter().map(|(name, figure)| (name, text(Some(&figure)))).unzip()
}

/// All figures, as JSON has them.
pub(super) fn values(totals: &Totals) -> Vec<Value> {
    match serde_json::to_value(totals) {
        Ok(Value::Object(all)) => all.into_iter().map(|(_, figure)| figure).collect(),
        _ => Vec::new(),
    }
}

/// Texts are marked where a spreadsheet would run them; what is not known is an empty cell.
fn text(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => inert(text).into_owned(),
        Some(other @ (Value::Number(_) | Value::Bool(_))) => other.to_string(),
        Some(other) => Cow::into_owned(inert(&other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_sheet_has_every_figure_and_runs_nothing() {
        let totals =
            Totals { requests: 7, cost_usd: "0.000000001".parse().unwrap(), ..Totals::default() };
        let key = json!({"user": "=1+1", "metadata.=x": null});
        let Value::Object(key) = key else { panic!() };
        let keys = [GroupKey::User, GroupKey::Metadata("=x".to_owned())];
        let bytes = Sheet::of_groups(&keys, &[Group { key, totals }]).bytes();
        let text = String::from_utf8(bytes).unwrap();
        let lines: Vec<&str> = text.split("\r\n").collect();
        assert!(lines[0].starts_with("user,metadata.=x,requests,errors,input_tokens"), "{text}");
        assert!(lines[1].starts_with("'=1+1,,7,0,0"), "{text}");
        assert!(lines[1].contains(",0.000000001,"), "{text}");
        assert_eq!(lines[0].split(',').count(), lines[1].split(',').count());
    }
}
