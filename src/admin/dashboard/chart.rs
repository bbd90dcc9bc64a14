//! What a chart shows, as data that the page's script draws. Owns the form of these data; knows nothing of
//! the library that draws them.
//!
//! Invariant: the data are JSON in a script element that no browser runs, and whose end nothing in them
//! can look like.

use maud::{Markup, PreEscaped, html};
use serde::Serialize;

/// How a chart is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Shape {
    /// Bars over the same places, one series upon the other.
    Stack,
    /// Bars over the same places, side by side.
    Beside,
    /// A point for each series.
    Points,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Chart {
    pub(super) shape: Shape,
    /// What a reader hears instead of seeing it.
    pub(super) about: String,
    /// Before figures.
    pub(super) unit: &'static str,
    pub(super) x_title: String,
    pub(super) y_title: String,
    /// The places' names.
    pub(super) x: Vec<String>,
    /// What the series of a place come to, where that is said of it.
    pub(super) totals: Vec<String>,
    /// Where a click on a place leads.
    pub(super) links: Vec<String>,
    pub(super) series: Vec<Series>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Series {
    pub(super) name: String,
    pub(super) values: Vec<f64>,
    /// The exact figures, as they are read.
    pub(super) shown: Vec<String>,
    /// Of points only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) x: Vec<f64>,
    /// Where a click on the series leads, of points.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) links: Vec<String>,
}

impl Chart {
    /// The place where it is drawn, and its data. Without a script there is no chart, and the table beside
    /// it says the same.
    pub(super) fn markup(&self, name: &str) -> Markup {
        let id = format!("chart-{name}");
        html! {
            div.plot id=(id) role="img" aria-label=(self.about) data-chart=(format!("{id}-data")) {}
            script type="application/json" id=(format!("{id}-data")) { (PreEscaped(json(self))) }
        }
    }
}

/// JSON in which no element can begin or end.
fn json(value: &impl Serialize) -> String {
    let json = serde_json::to_string(value).unwrap_or_default();
    json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_ends_the_data() {
        let json = json(&["</script><script>alert(1)</script>", "<!--", "&lt;"]);
        assert!(!json.contains(['<', '>', '&']));
        let back: Vec<String> = serde_json::from_str(&json).unwrap();
        assert_eq!(back, ["</script><script>alert(1)</script>", "<!--", "&lt;"]);
    }
}
