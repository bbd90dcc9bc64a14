//! Where connections come in: an address, its places and what is served there. Owns which of tokenmeter's pages
//! are where; accepts nobody itself.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use super::doors::{Doors, spare_for};

/// Connections that the kernel holds for us before they are accepted.
const BACKLOG: i32 = 1024;

/// Connections to the operator's own address at a time: pages, scrapes, reports.
pub(super) const OPERATORS: usize = 64;

/// What is served at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Serves {
    /// Calls, and all that is tokenmeter's own.
    All,
    /// Calls; what is the operator's is elsewhere.
    Calls,
    /// What is tokenmeter's own, and never a call.
    Own,
}

#[derive(Debug)]
pub(super) struct Entrance {
    pub(super) listener: TcpListener,
    pub(super) doors: Arc<Doors>,
    pub(super) serves: Serves,
}

impl Entrance {
    /// Listens from now on.
    pub(super) fn open(
        address: SocketAddr,
        doors: Arc<Doors>,
        serves: Serves,
    ) -> io::Result<Entrance> {
        Ok(Entrance { listener: bind(address)?, doors, serves })
    }

    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The same one for another thread.
    pub(super) fn again(&self) -> io::Result<Entrance> {
        let (listener, doors) = (self.listener.try_clone()?, Arc::clone(&self.doors));
        Ok(Entrance { listener, doors, serves: self.serves })
    }
}

/// Descriptors that an address for the operator alone takes.
pub(super) fn descriptors_of_operators() -> usize {
    OPERATORS + spare_for(OPERATORS)
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}
