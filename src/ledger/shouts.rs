//! What is said in the log while the journal cannot be written: at once, then again and again, never so
//! often as to fill a disk. Owns the moments and the words; counts nothing itself.

use std::time::{Duration, Instant};

/// How often lines that are being lost are spoken of.
const LOSS_INTERVAL: Duration = Duration::from_secs(10);

/// How often a fault is spoken of that goes on.
const FAULT_INTERVAL: Duration = Duration::from_mins(1);

/// What to say now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Shout {
    Begun,
    GoesOn,
    /// So many lines were lost since this was last said.
    Lost(u64),
    Over,
}

/// What has been said.
#[derive(Debug, Default)]
pub(super) struct Shouts {
    dropped: u64,
    lost_at: Option<Instant>,
    /// When the fault was last spoken of.
    fault_at: Option<Instant>,
}

impl Shouts {
    /// What is due, by how many lines have been lost so far.
    pub(super) fn next(&mut self, now: Instant, is_faulty: bool, dropped: u64) -> Option<Shout> {
        if is_faulty && self.fault_at.is_none() {
            self.fault_at = Some(now);
            return Some(Shout::Begun);
        }
        let lost = dropped - self.dropped;
        // The last ones of a spell are told at its end.
        if lost > 0 && (!is_faulty || is_past(self.lost_at, LOSS_INTERVAL, now)) {
            (self.dropped, self.lost_at, self.fault_at) = (dropped, Some(now), Some(now));
            return Some(Shout::Lost(lost));
        }
        if !is_faulty {
            self.lost_at = None;
            return self.fault_at.take().map(|_| Shout::Over);
        }
        is_past(self.fault_at, FAULT_INTERVAL, now).then(|| {
            self.fault_at = Some(now);
            Shout::GoesOn
        })
    }
}

fn is_past(last: Option<Instant>, interval: Duration, now: Instant) -> bool {
    last.is_none_or(|last| now.duration_since(last) >= interval)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_spoken_of_again_and_again_and_none_is_left_out() {
        let (mut shouts, start) = (Shouts::default(), Instant::now());
        let mut told = Vec::new();
        // A line is lost every second for a minute, from the third second on.
        for second in 0..=70_u64 {
            let dropped = second.saturating_sub(2).min(60);
            let now = start + Duration::from_secs(second);
            while let Some(shout) = shouts.next(now, second < 70, dropped) {
                told.push((second, shout));
            }
        }
        let lost: u64 = told.iter().map(|(_, s)| if let Shout::Lost(n) = s { *n } else { 0 }).sum();
        assert_eq!(lost, 60);
        assert_eq!(told[0], (0, Shout::Begun));
        assert_eq!(told[1], (3, Shout::Lost(1)));
        assert_eq!(told[2], (13, Shout::Lost(10)));
        assert_eq!(told.last(), Some(&(70, Shout::Over)));
        assert_eq!(shouts.next(start + Duration::from_secs(99), false, 60), None);
    }

    #[test]
    fn a_fault_that_goes_on_is_spoken_of_every_minute() {
        let (mut shouts, start) = (Shouts::default(), Instant::now());
        let seconds = 0..=121_u64;
        let told = seconds.filter_map(|s| shouts.next(start + Duration::from_secs(s), true, 0));
        assert_eq!(told.collect::<Vec<_>>(), [Shout::Begun, Shout::GoesOn, Shout::GoesOn]);
    }
}
