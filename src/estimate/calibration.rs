//! What reported usage teaches about the estimates of a model. Owns how a deviation that keeps coming
//! back corrects later estimates, and which error is left to be expected.

use serde::{Deserialize, Serialize};

/// Which side of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    Input,
    Output,
}

impl Side {
    pub fn as_str(self) -> &'static str {
        match self {
            Side::Input => "input",
            Side::Output => "output",
        }
    }
}

/// What is known of one model's estimates, on one side. Kept in the database, so that it survives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    pub provider: String,
    pub model: String,
    pub side: Side,
    /// Calls that were compared.
    pub samples: u64,
    /// Reported over estimated, less one: 0.03 says that the uncorrected estimates are 3 % too low.
    pub bias: f64,
    /// The mean absolute error that is left once the bias is taken out, as a share: 0.02 is 2 %.
    pub error: f64,
}
