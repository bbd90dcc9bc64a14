//! File descriptors: raises what the process may have to what the system allows it, and says how many
//! connections and calls that is enough for. Owns this arithmetic; counts nothing while it runs.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::doors::spare_for;

/// Descriptors that are for neither clients nor upstreams: the database and its readers, the journal, the
/// workers' own, downloads.
const RESERVE: usize = 100;

/// So many are let in however few descriptors there are; whoever has so few will hear of it from the system.
const LEAST: usize = 4;

/// How many connections and calls are let in at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) connections: usize,
    pub(super) calls: usize,
}

/// Raises the limit and fits the room into what `others` leave of it; says so once where that is less than was
/// asked for.
pub(super) fn fit(wanted: Room, others: usize) -> Room {
    let Some(most) = raise() else { return wanted };
    let room = within(wanted, most.saturating_sub(others));
    if room != wanted {
        tracing::warn!(
            "limits.connections = {} and limits.calls = {} need {} file descriptors, and the process may \
             have {most}: {} connections and {} calls at a time are served. Allow it more (ulimit -n, \
             LimitNOFILE), or lower the limits",
            wanted.connections,
            wanted.calls,
            needed(wanted) + others,
            room.connections,
            room.calls,
        );
    }
    room
}

/// The number of descriptors that the process may have now; `None`: any.
fn raise() -> Option<usize> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: maximum, maximum };
    let most = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => maximum,
        Err(error) => {
            tracing::debug!(%error, "the limit on file descriptors stays");
            current
        }
    };
    most.map(|most| usize::try_from(most).unwrap_or(usize::MAX))
}

/// A client's connection is a descriptor, and a call another, to the upstream.
fn needed(room: Room) -> usize {
    let spare = spare_for(room.connections);
    RESERVE.saturating_add(room.connections).saturating_add(spare).saturating_add(room.calls)
}

fn within(wanted: Room, most: usize) -> Room {
    if needed(wanted) <= most {
        return wanted;
    }
    let left = most.saturating_sub(RESERVE);
    let all_connections = wanted.connections.saturating_add(spare_for(wanted.connections));
    let calls = wanted.calls.min(left.saturating_sub(all_connections).max(left / 2).max(LEAST));
    let left = left.saturating_sub(calls);
    let mut connections = wanted.connections.min(left);
    while connections > LEAST && connections + spare_for(connections) > left {
        connections -= 1;
    }
    Room { connections: connections.max(LEAST.min(wanted.connections)), calls }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_stays_and_what_does_not_is_made_to_fit() {
        let wanted = Room { connections: 10_000, calls: 10_000 };
        assert_eq!(within(wanted, needed(wanted)), wanted);
        for most in (needed(Room { connections: 50, calls: 50 })..needed(wanted)).step_by(97) {
            let room = within(wanted, most);
            assert!(needed(room) <= most, "{room:?} in {most}");
            // Whoever may connect may also call.
            assert!(room.calls >= room.connections && room.calls > (most - RESERVE) / 3);
        }
    }

    #[test]
    fn few_connections_leave_the_rest_to_their_streams() {
        let wanted = Room { connections: 10, calls: 10_000 };
        let room = within(wanted, 1024);
        assert_eq!(room.connections, 10);
        assert_eq!(needed(room), 1024);
    }

    #[test]
    fn some_are_served_with_next_to_nothing() {
        let room = within(Room { connections: 10_000, calls: 10_000 }, 20);
        assert_eq!(room, Room { connections: LEAST, calls: LEAST });
        let few = Room { connections: 1, calls: 1 };
        assert_eq!(within(few, 20), few);
        assert_eq!(within(Room { connections: 10_000, calls: 2 }, 200).calls, 2);
    }
}
