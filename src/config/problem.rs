//! What is wrong with a configuration, and where it was said. Owns the wording around a complaint;
//! never shows the value of a secret.

use std::fmt;

/// Where a setting was typed. Orders as a person would look: file by line, environment, flags.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    File { path: String, line: usize },
    Environment(String),
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File { path, line } => write!(f, "{path}:{line}"),
            Origin::Environment(name) => f.write_str(name),
            Origin::Flag(name) => f.write_str(name),
        }
    }
}

/// One complaint: where, which key, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// `None` where nothing was typed that could be pointed at.
    pub origin: Option<Origin>,
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Some(origin) => write!(f, "{origin}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

/// Everything that is wrong, at once; never empty. Displays as one line for each problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// Problems and warnings as they are found.
#[derive(Debug, Default)]
pub(super) struct Findings {
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
}

impl Findings {
    pub(super) fn problem(&mut self, origin: Option<&Origin>, message: impl Into<String>) {
        self.problems.push(Problem { origin: origin.cloned(), message: message.into() });
    }

    pub(super) fn warning(&mut self, origin: Option<&Origin>, message: impl Into<String>) {
        self.warnings.push(Problem { origin: origin.cloned(), message: message.into() });
    }

    /// The warnings, or else every problem.
    pub(super) fn finish(self) -> Result<Vec<String>, ConfigError> {
        if self.problems.is_empty() {
            return Ok(self.warnings.iter().map(ToString::to_string).collect());
        }
        Err(self.into_error())
    }

    /// The problems in the order in which a person would look for them.
    pub(super) fn into_error(mut self) -> ConfigError {
        self.problems.sort();
        self.problems.dedup();
        ConfigError { problems: self.problems }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_stand_in_the_order_of_the_file() {
        let mut findings = Findings::default();
        let line = |line| Origin::File { path: "t.toml".into(), line };
        findings.problem(Some(&Origin::Flag("--listen")), "c");
        findings.problem(Some(&line(12)), "b");
        findings.problem(Some(&line(3)), "a");
        let error = findings.finish().unwrap_err();
        assert_eq!(error.to_string(), "t.toml:3: a\nt.toml:12: b\n--listen: c");
    }
}
