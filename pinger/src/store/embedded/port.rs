//! The engine's port on loopback, ours for as long as we live, also while no engine listens there.
//!
//! Whoever got hold of that port while the engine is away would be sent its secrets. So a socket of
//! ours is bound to it that never listens, and the engine shares it: SO_REUSEPORT, which the
//! kernel grants to processes of one user only.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::store::StoreError;

/// The longest a try to connect may take: on loopback, the kernel answers at once.
const CONNECT_LIMIT: Duration = Duration::from_millis(100);

/// A port that no other user can take.
#[derive(Debug)]
pub(super) struct HeldPort {
    number: u16,
    /// Never read or written.
    _socket: Socket,
}

impl HeldPort {
    /// Takes the port asked for, if nobody has it, or one that is free.
    ///
    /// # Errors
    /// When somebody has it, or the system has none left.
    pub(super) fn take(asked: Option<u16>) -> Result<Self, StoreError> {
        let taken = |_| StoreError::PortTaken {
            port: asked.unwrap_or(0),
        };
        if let Some(port) = asked {
            // Another pinger of this user would share it with us.
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(taken)?;
        }
        Self::hold(asked.unwrap_or(0)).map_err(taken)
    }

    fn hold(port: u16) -> std::io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_reuse_port(true)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
        let address = socket.local_addr()?.as_socket();
        Ok(Self {
            number: address.map_or(port, |address| address.port()),
            _socket: socket,
        })
    }

    /// Its number.
    pub(super) fn number(&self) -> u16 {
        self.number
    }

    /// Whether somebody listens there, who can only be the engine.
    pub(super) fn answers(&self) -> bool {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.number));
        TcpStream::connect_timeout(&address, CONNECT_LIMIT).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_named_and_a_free_one_found() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has ports");
        let port = listener.local_addr().expect("it is bound").port();
        assert!(matches!(
            HeldPort::take(Some(port)),
            Err(StoreError::PortTaken { port: named }) if named == port
        ));
        assert_ne!(
            HeldPort::take(None).expect("there is another").number(),
            port
        );
    }

    #[test]
    fn a_held_port_is_for_those_who_share_it() {
        let held = HeldPort::take(None).expect("there is a free one");
        let port = held.number();
        assert!(!held.answers(), "nobody listens yet");
        assert!(
            HeldPort::take(Some(port)).is_err(),
            "another pinger does not get it"
        );
        assert!(TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_err());
        assert!(TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_err());

        let engine = HeldPort::hold(port).expect("it shares the port");
        engine._socket.listen(1).expect("it is bound");
        assert!(held.answers());
        drop(engine);
        assert!(!held.answers());
        drop(held);
        HeldPort::take(Some(port)).expect("it is free again");
    }
}
