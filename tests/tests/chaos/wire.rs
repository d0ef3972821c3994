//! A wire to a server that fails in the ways of networks and of proxies: it knows where HTTP
//! requests and answers begin and end, and nothing else of them.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// The longest header that pinger or ClickHouse sends, many times over.
const HEAD_MAX: u64 = 64 << 10;

const REFUSAL: &[u8] =
    b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 9\r\n\r\nno luck\r\n";

/// What is wrong with it now.
#[derive(Debug, Default)]
struct Trouble {
    cut: bool,
    stalled: bool,
    refusals: u64,
    lost_answers: u64,
    streams: Vec<TcpStream>,
}

#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) port: u16,
    shared: Arc<(Mutex<Trouble>, Condvar)>,
}

impl Wire {
    /// A wire to this port. Must be called in the namespace where both ends are: its threads stay
    /// where it was made.
    pub(crate) fn to(target: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared: Arc<(Mutex<Trouble>, Condvar)> = Arc::default();
        let given = Arc::clone(&shared);
        // It ends with the process: a listener cannot be told to.
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&given);
                thread::spawn(move || {
                    // Each end and each cut is an error to whoever reads or writes.
                    let _ = converse(client, target, &shared);
                });
            }
        });
        Self { port, shared }
    }

    fn trouble(&self) -> MutexGuard<'_, Trouble> {
        lock(&self.shared)
    }

    pub(crate) fn cut(&self) {
        let mut trouble = self.trouble();
        trouble.cut = true;
        for stream in trouble.streams.drain(..) {
            // It may have ended by itself.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    pub(crate) fn stall(&self) {
        self.trouble().stalled = true;
    }

    pub(crate) fn refuse(&self, requests: u64) {
        self.trouble().refusals += requests;
    }

    pub(crate) fn drop_answers(&self, answers: u64) {
        self.trouble().lost_answers += answers;
    }

    /// Nothing is wrong any more.
    pub(crate) fn mend(&self) {
        let mut trouble = self.trouble();
        trouble.cut = false;
        trouble.stalled = false;
        self.shared.1.notify_all();
    }

    /// As [`Wire::mend`], and what was still to come does not.
    pub(crate) fn calm(&self) {
        self.mend();
        let mut trouble = self.trouble();
        trouble.refusals = 0;
        trouble.lost_answers = 0;
    }
}

fn lock(shared: &(Mutex<Trouble>, Condvar)) -> MutexGuard<'_, Trouble> {
    shared.0.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits while the wire is stalled.
fn pass(shared: &(Mutex<Trouble>, Condvar)) {
    let mut trouble = lock(shared);
    while trouble.stalled {
        trouble = shared
            .1
            .wait(trouble)
            .unwrap_or_else(PoisonError::into_inner);
    }
}

/// One connection from its begin to its end: requests and answers in turn.
fn converse(client: TcpStream, target: u16, shared: &(Mutex<Trouble>, Condvar)) -> io::Result<()> {
    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, target))?;
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
    }
    {
        let mut trouble = lock(shared);
        if trouble.cut {
            return Ok(());
        }
        let streams = [client.try_clone()?, server.try_clone()?];
        trouble.streams.extend(streams);
    }
    let mut requests = BufReader::new(client.try_clone()?);
    let mut answers = BufReader::new(server.try_clone()?);
    let (mut client, mut server) = (client, server);
    // Whoever goes away, goes away for both.
    let result = (|| {
        loop {
            let refused = {
                if requests.fill_buf()?.is_empty() {
                    return Ok(());
                }
                let mut trouble = lock(shared);
                take_one(&mut trouble.refusals)
            };
            if refused {
                message(&mut requests, &mut io::sink(), shared)?;
                client.write_all(REFUSAL)?;
                continue;
            }
            let request = message(&mut requests, &mut server, shared)?;
            answers.fill_buf()?;
            if request.contains("insert") && take_one(&mut lock(shared).lost_answers) {
                return Ok(());
            }
            message(&mut answers, &mut client, shared)?;
        }
    })();
    for stream in [&client, &server] {
        let _ = stream.shutdown(Shutdown::Both);
    }
    result
}

fn take_one(count: &mut u64) -> bool {
    let left = count.checked_sub(1);
    *count = left.unwrap_or(0);
    left.is_some()
}

/// Moves one message of HTTP/1.1: a head, and a body of a known length, in chunks, or none. Gives
/// the head, in small letters.
fn message(
    from: &mut BufReader<TcpStream>,
    to: &mut impl Write,
    shared: &(Mutex<Trouble>, Condvar),
) -> io::Result<String> {
    let mut head = Vec::new();
    loop {
        let before = head.len();
        from.by_ref().take(HEAD_MAX).read_until(b'\n', &mut head)?;
        if head.len() == before {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if head[before..] == *b"\r\n" {
            break;
        }
    }
    pass(shared);
    to.write_all(&head)?;
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let field = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(':'));
        lines.find_map(|(key, value)| (key.trim() == name).then(|| value.trim().to_owned()))
    };
    if field("transfer-encoding").is_some_and(|value| value.contains("chunked")) {
        chunks(from, to, shared)?;
    } else {
        let length = field("content-length").and_then(|value| value.parse().ok());
        body(from, to, length.unwrap_or(0), shared)?;
    }
    Ok(head)
}

fn chunks(
    from: &mut BufReader<TcpStream>,
    to: &mut impl Write,
    shared: &(Mutex<Trouble>, Condvar),
) -> io::Result<()> {
    loop {
        let mut line = Vec::new();
        from.by_ref().take(HEAD_MAX).read_until(b'\n', &mut line)?;
        to.write_all(&line)?;
        let text = String::from_utf8_lossy(&line);
        let length = u64::from_str_radix(text.trim(), 16)
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        // What follows a chunk is an empty line.
        body(from, to, length + 2, shared)?;
        if length == 0 {
            return Ok(());
        }
    }
}

fn body(
    from: &mut BufReader<TcpStream>,
    to: &mut impl Write,
    mut length: u64,
    shared: &(Mutex<Trouble>, Condvar),
) -> io::Result<()> {
    while length > 0 {
        let bytes = from.fill_buf()?;
        if bytes.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let now = bytes
            .len()
            .min(usize::try_from(length).unwrap_or(usize::MAX));
        pass(shared);
        to.write_all(&bytes[..now])?;
        from.consume(now);
        length -= now as u64;
    }
    Ok(())
}
