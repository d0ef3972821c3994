//! A wire to a server that fails as networks and servers do: it is cut, or it stands still.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Condvar, Mutex};

use super::await_that;

/// A TCP forwarder that can be cut, as a network can, and that can stand still.
pub(crate) struct Wire {
    pub(crate) port: u16,
    target: u16,
    streams: Arc<Mutex<Vec<TcpStream>>>,
    stall: Arc<(Mutex<Stall>, Condvar)>,
    listener: Option<TcpListener>,
}

/// What stands still. Connections are taken all the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Stall {
    #[default]
    Nothing,
    /// What the server says: it has taken all that it was sent.
    Answers,
    /// The same, once these words are on their way to the server.
    AnswersAfter(&'static str),
    /// What the server is sent.
    Requests,
}

/// The way of a connection's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    ToServer,
    ToClient,
}

/// The receive buffer of a wire, bytes: what a stalled one holds of an insert is little.
const BUFFER: libc::c_int = 64 << 10;

impl Wire {
    pub(crate) fn to(target: u16) -> Self {
        let mut wire = Self {
            port: 0,
            target,
            streams: Arc::default(),
            stall: Arc::default(),
            listener: None,
        };
        wire.mend();
        wire
    }

    /// Accepts connections, on the port it had.
    pub(crate) fn mend(&mut self) {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)).expect("the port is ours");
        self.port = listener.local_addr().expect("it is bound").port();
        limit_buffer(&listener);
        let accepting = listener.try_clone().expect("descriptors are left");
        let (target, streams) = (self.target, Arc::clone(&self.streams));
        let stall = Arc::clone(&self.stall);
        std::thread::spawn(move || {
            for stream in accepting.incoming() {
                let Ok(client) = stream else { return };
                let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)) else {
                    continue;
                };
                for (from, to, way) in [
                    (&client, &server, Way::ToServer),
                    (&server, &client, Way::ToClient),
                ] {
                    let (from, to) = (from.try_clone(), to.try_clone());
                    let (Ok(mut from), Ok(mut to)) = (from, to) else {
                        continue;
                    };
                    let stall = Arc::clone(&stall);
                    std::thread::spawn(move || {
                        // The end of one direction, or a cut, ends both.
                        let _ = forward(&mut from, &mut to, way, &stall);
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
                streams
                    .lock()
                    .expect("nobody panicked")
                    .extend([client, server]);
            }
        });
        self.listener = Some(listener);
    }

    /// Lets that stand still; what is under way, too.
    pub(crate) fn stall(&self, stall: Stall) {
        *self.stall.0.lock().expect("nobody panicked") = stall;
        self.stall.1.notify_all();
    }

    /// Cuts all connections and refuses new ones.
    pub(crate) fn cut(&mut self) {
        if let Some(listener) = self.listener.take() {
            // SAFETY: plain system call on a descriptor that we own; it wakes the accepting thread.
            unsafe { libc::shutdown(listener.as_raw_fd(), libc::SHUT_RDWR) };
        }
        for stream in self.streams.lock().expect("nobody panicked").drain(..) {
            // It may have ended by itself.
            let _ = stream.shutdown(Shutdown::Both);
        }
        await_that("the port is closed", || {
            TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err()
        });
    }
}

/// Sets what a connection holds that nobody reads; those that a listener takes inherit it.
fn limit_buffer(listener: &TcpListener) {
    let size = size_of_val(&BUFFER) as libc::socklen_t;
    // SAFETY: the option takes an int, which outlives the call.
    let code = unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUF,
            std::ptr::from_ref(&BUFFER).cast(),
            size,
        )
    };
    assert_eq!(code, 0, "the buffer is ours");
}

fn forward(
    from: &mut TcpStream,
    to: &mut TcpStream,
    way: Way,
    stall: &(Mutex<Stall>, Condvar),
) -> std::io::Result<()> {
    let mut buffer = [0; 65536];
    loop {
        let length = match from.read(&mut buffer)? {
            0 => return Ok(()),
            length => length,
        };
        pass(&buffer[..length], way, stall);
        to.write_all(&buffer[..length])?;
    }
}

/// Waits while these bytes stand still.
fn pass(bytes: &[u8], way: Way, (stall, changed): &(Mutex<Stall>, Condvar)) {
    let mut stall = stall.lock().expect("nobody panicked");
    if let (Stall::AnswersAfter(words), Way::ToServer) = (*stall, way) {
        let mut parts = bytes.windows(words.len());
        if parts.any(|part| part == words.as_bytes()) {
            *stall = Stall::Answers;
        }
    }
    let stands = |stall: &mut Stall| match way {
        Way::ToServer => *stall == Stall::Requests,
        Way::ToClient => *stall == Stall::Answers,
    };
    drop(changed.wait_while(stall, stands).expect("nobody panicked"));
}
