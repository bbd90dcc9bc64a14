//! The text format that Prometheus had before `OpenMetrics`, which promtool and most scrapers without a word
//! about what they take read. Owns the differences; the figures are the same.
//!
//! Source: <https://prometheus.io/docs/instrumenting/exposition_formats> and the `OpenMetrics` specification 1.0: there a
//! counter's name has no `_total`, which its samples have; here both have it, and there is no end mark.

use std::collections::HashSet;

/// The same page in the older format.
pub(super) fn of(openmetrics: &str) -> String {
    let counters: HashSet<&str> = openmetrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
        .collect();
    let mut text = String::with_capacity(openmetrics.len());
    for line in openmetrics.lines().filter(|line| *line != "# EOF") {
        let said = ["# HELP ", "# TYPE "].into_iter().find_map(|word| {
            let (name, rest) = line.strip_prefix(word)?.split_once(' ')?;
            counters.contains(name).then_some((word, name, rest))
        });
        match said {
            Some((word, name, rest)) => text.extend([word, name, "_total ", rest]),
            None => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_named_as_their_samples_are() {
        let page = "# HELP a_calls Calls.\n# TYPE a_calls counter\na_calls_total{x=\"# TYPE\"} 3\n\
                    # HELP a_up Up.\n# TYPE a_up gauge\na_up 1\n# EOF\n";
        let classic = "# HELP a_calls_total Calls.\n# TYPE a_calls_total counter\n\
                       a_calls_total{x=\"# TYPE\"} 3\n# HELP a_up Up.\n# TYPE a_up gauge\na_up 1\n";
        assert_eq!(of(page), classic);
    }
}
