//! Another user of the same host: can neither read, write nor stop the embedded store, nor keep
//! rows out of it.

#[expect(dead_code, reason = "other tests use the rest of the kit")]
mod store_kit;

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pinger::config::{StoreChoice, StoreOptions};
use pinger::stats::Counts;
use store_kit::{Home, PATIENCE, await_that, chunk, engines, free_port, open, wall_ns};

/// An ordinary user without rights.
const NOBODY: u32 = 65534;

/// What only the store's own user can read: how its engine is reached.
struct Endpoint {
    port: u16,
    password: String,
    key: String,
    /// The secret header, as a line of a request.
    header: String,
}

impl Endpoint {
    fn of(options: &StoreOptions) -> Self {
        let text = fs::read_to_string(options.data_dir.join("endpoint.json"))
            .expect("it is shared with this user");
        let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let text = |key: &str| json[key].as_str().expect(key).to_owned();
        let port = text("url").rsplit(':').next().and_then(|p| p.parse().ok());
        Self {
            port: port.expect("a port"),
            password: text("password"),
            key: text("header_value"),
            header: format!("{}: {}\r\n", text("header_name"), text("header_value")),
        }
    }
}

#[test]
fn another_user_gets_nothing() {
    let home = Home::new();
    let options = home.embedded();
    let store = open(&options, wall_ns(Duration::ZERO)).expect("the engine starts");
    let endpoint = Endpoint::of(&options);
    nothing_is_answered(&endpoint);
    nothing_is_done(&home, &endpoint);
    nothing_is_in_reach(&options, &endpoint);
    store.close(&Counts::default(), PATIENCE);
}

#[test]
fn the_engine_listens_on_one_address() {
    let home = Home::new();
    let options = home.embedded();
    let store = open(&options, wall_ns(Duration::ZERO)).expect("the engine starts");
    let port = Endpoint::of(&options).port;
    let own = (Ipv4Addr::LOCALHOST, port).into();
    assert_eq!(sockets(engines(&options.data_dir)[0], LISTEN), [own]);
    TcpStream::connect(own).expect("the test can tell");
    let mut others: Vec<IpAddr> = vec![Ipv4Addr::new(127, 0, 0, 2).into()];
    others.push(Ipv6Addr::LOCALHOST.into());
    // The address by which this machine would go out, if it has one; nothing is sent.
    let out = UdpSocket::bind("0.0.0.0:0").expect("there are ports");
    if out.connect("192.0.2.1:9").is_ok() {
        others.push(out.local_addr().expect("it is bound").ip());
    }
    for address in others {
        let answer = TcpStream::connect((address, port));
        assert!(answer.is_err(), "{address} answers");
    }
    store.close(&Counts::default(), PATIENCE);
}

/// States of a socket, as /proc has them.
const LISTEN: &str = "0A";
const ESTABLISHED: &str = "01";

/// The local addresses of a process's TCP sockets in a state: its descriptors, looked up among the
/// sockets of its namespace.
fn sockets(pid: i32, state: &str) -> Vec<SocketAddr> {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs");
    let open: Vec<_> = descriptors
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .collect();
    let mut found = Vec::new();
    for table in ["tcp", "tcp6"] {
        let table = fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        for line in table.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let socket = Path::new(&format!("socket:[{}]", fields[9])).to_owned();
            if fields[3] == state && open.contains(&socket) {
                found.push(socket_address(fields[1]));
            }
        }
    }
    found
}

/// An address as /proc has it: 32-bit words in the byte order of the host, and the port.
fn socket_address(text: &str) -> SocketAddr {
    let (address, port) = text.split_once(':').expect("address:port");
    let word = |at: usize| u32::from_str_radix(&address[at..at + 8], 16).expect("hexadecimal");
    let bytes: Vec<u8> = (0..address.len())
        .step_by(8)
        .flat_map(|at| word(at).to_ne_bytes())
        .collect();
    let address = match <[u8; 4]>::try_from(&bytes[..]) {
        Ok(bytes) => IpAddr::from(bytes),
        Err(_) => IpAddr::from(<[u8; 16]>::try_from(&bytes[..]).expect("16 bytes")),
    };
    let port = u16::from_str_radix(port, 16).expect("hexadecimal");
    (address, port).into()
}

/// Connections of another user that say nothing, until dropped.
struct Idle(Child);

impl Idle {
    fn hold(port: u16, count: usize) -> Self {
        let command = format!(
            "for i in $(seq {count}); do exec {{fd}}<>/dev/tcp/127.0.0.1/{port}; done; \
             echo held; read -r"
        );
        let mut child = nobodys(&command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("these tests run as root, and bash is there");
        let mut said = String::new();
        let output = child.stdout.as_mut().expect("it is piped");
        BufReader::new(output).read_line(&mut said).expect("text");
        assert_eq!(said, "held\n");
        Self(child)
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How many connections are held: many more than people who ask have.
const IDLE: usize = 200;

#[test]
fn connections_that_say_nothing_keep_no_rows_out() {
    let home = Home::new();
    let options = home.embedded();
    let run = wall_ns(Duration::from_secs(100));
    let store = open(&options, run).expect("the engine starts");
    let port = Endpoint::of(&options).port;
    let engine = engines(&options.data_dir)[0];
    // They are put out after some seconds, which a busy machine may need for the rows: then again.
    let in_time = (0..3).any(|number| {
        let idle = Idle::hold(port, IDLE);
        store.sender().offer(chunk(run, number, 1000));
        await_that("rows are written", || {
            store.sender().counts().written == 1000 * (number + 1)
        });
        let count = home.sql("SELECT count() FROM results FORMAT TSV");
        assert_eq!(count, format!("{}000\n", number + 1));
        let held = sockets(engine, ESTABLISHED).len();
        drop(idle);
        held >= IDLE
    });
    assert!(in_time, "rows wait until others are put out");
    store.close(&Counts::default(), PATIENCE);
}

#[test]
fn a_connection_that_says_nothing_is_put_out() {
    let home = Home::new();
    let options = home.embedded();
    let store = open(&options, wall_ns(Duration::ZERO)).expect("the engine starts");
    let address = (Ipv4Addr::LOCALHOST, Endpoint::of(&options).port);
    let mut silent = TcpStream::connect(address).expect("it listens");
    // ClickHouse itself would wait for 30 s; the engine is told 5.
    let limit = Duration::from_secs(25);
    silent.set_read_timeout(Some(limit)).expect("not zero");
    assert_eq!(silent.read(&mut [0; 100]).expect("it is closed"), 0);
    store.close(&Counts::default(), PATIENCE);
}

#[test]
fn a_data_directory_that_others_see_is_closed() {
    let home = Home::new();
    let options = home.embedded();
    for folder in ["", "config", "definitions", "engine", "spool"] {
        let folder = options.data_dir.join(folder);
        fs::create_dir(&folder).expect("our own directory");
        set_mode(&folder, 0o755);
    }
    let store = open(&options, wall_ns(Duration::ZERO)).expect("it is ours");
    for folder in ["", "config", "definitions", "engine", "spool"] {
        let folder = options.data_dir.join(folder);
        let mode = fs::metadata(&folder).expect("it is there").mode() & 0o777;
        assert_eq!(mode, 0o700, "{}", folder.display());
    }
    let answer = as_nobody(&format!("ls {}", options.data_dir.display()));
    assert!(answer.contains("denied"), "{answer}");
    store.close(&Counts::default(), PATIENCE);
}

#[test]
fn a_data_directory_that_others_may_change_is_refused() {
    let home = Home::new();
    let embedded = home.embedded();
    let by_url = StoreOptions {
        choice: StoreChoice::Url(format!("http://127.0.0.1:{}/pinger", free_port())),
        ..home.embedded()
    };
    let data_dir = &embedded.data_dir;
    fs::create_dir(data_dir).expect("our own directory");
    fs::write(data_dir.join("left"), "").expect("our own directory");
    for (mode, owner, words) in [
        (0o777, 0, "others may write into"),
        (0o1777, 0, "others may write into"),
        (0o700, NOBODY, "belongs to the user with id 65534"),
    ] {
        chown(data_dir, Some(owner), None).expect("these tests run as root");
        set_mode(data_dir, mode);
        for options in [&embedded, &by_url] {
            let opened = open(options, wall_ns(Duration::ZERO));
            let error = opened.err().expect("not private").to_string();
            assert!(error.contains(words), "{error}");
            assert!(error.contains("choose another --data-dir"), "{error}");
        }
        let found = fs::metadata(data_dir).expect("it is there").mode();
        assert_eq!(found & 0o7777, mode, "left alone");
        let made = fs::read_dir(data_dir).expect("root may").count();
        assert_eq!(made, 1, "nothing was put there");
    }
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("our own directory");
}

/// Requests without the secrets, and with one of the two.
fn nothing_is_answered(endpoint: &Endpoint) {
    let Endpoint {
        port,
        password,
        header,
        ..
    } = endpoint;
    let query = "/?query=SELECT%201";
    let user = format!("X-ClickHouse-User: pinger\r\nX-ClickHouse-Key: {password}\r\n");
    for (path, headers) in [
        (query, ""),
        ("/", ""),
        ("/ping", ""),
        ("/play", ""),
        ("/dashboard", ""),
        ("/replicas_status", ""),
        (query, "X-Pinger-Key: guess\r\n"),
        (query, "X-ClickHouse-User: default\r\n"),
        (query, user.as_str()),
    ] {
        let answer = as_nobody(&get(*port, path, headers));
        assert!(
            answer.starts_with("HTTP/1.1 4"),
            "{path} {headers}: {answer}"
        );
    }
    // What the header protects against is not all that protects: even with it, no password means
    // no data, and the start query's user is not let in.
    let read = "/?query=SELECT%20count()%20FROM%20pinger.results";
    let one = "/?query=SELECT%201";
    // One user in the header, another in the question.
    let both = "/?user=default&query=SELECT%201";
    for (path, user) in [
        (read, "pinger"),
        (read, "default"),
        (one, "default"),
        (both, "pinger"),
    ] {
        let headers = format!("{header}X-ClickHouse-User: {user}\r\n");
        let answer = as_nobody(&get(*port, path, &headers));
        assert!(is_refused(&answer), "{path} {user}: {answer}");
    }
    // The test can tell: with both, the answer comes.
    let answer = as_nobody(&get(*port, query, &format!("{header}{user}")));
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("\n1\n"),
        "{answer}"
    );
}

/// Statements that would write, stop the engine, or make it read files, also with the header.
fn nothing_is_done(home: &Home, endpoint: &Endpoint) {
    for (statement, user) in [
        ("INSERT INTO pinger.sources (id) VALUES (7)", "pinger"),
        ("INSERT INTO pinger.sources (id) VALUES (7)", "default"),
        ("DROP TABLE pinger.results", "default"),
        ("SYSTEM SHUTDOWN", "default"),
        ("SYSTEM KILL", "default"),
        (
            "SELECT * FROM file('/etc/passwd', 'LineAsString')",
            "default",
        ),
        (
            "INSERT INTO FUNCTION file('/tmp/x', 'CSV', 'a Int8') VALUES (1)",
            "default",
        ),
    ] {
        for headers in ["", &endpoint.header] {
            let headers = format!("{headers}X-ClickHouse-User: {user}\r\n");
            let answer = as_nobody(&post(endpoint.port, statement, &headers));
            assert!(is_refused(&answer), "{statement} {user}: {answer}");
        }
    }
    let sources = "SELECT count() FROM sources WHERE id = 7 FORMAT TSV";
    assert_eq!(home.sql(sources), "0\n");
}

fn is_refused(answer: &str) -> bool {
    answer.starts_with("HTTP/1.1 4") || answer.starts_with("HTTP/1.1 5")
}

/// Files, processes, and the port.
fn nothing_is_in_reach(options: &StoreOptions, endpoint: &Endpoint) {
    let data_dir = options.data_dir.display();
    let engine = engines(&options.data_dir)[0];
    for command in [
        format!("ls {data_dir}"),
        format!("ls {data_dir}/spool"),
        format!("touch {data_dir}/spool/x"),
        format!("cat {data_dir}/endpoint.json"),
        format!("cat {data_dir}/config/config.xml"),
        format!("cat {data_dir}/engine.log"),
        format!("cat {data_dir}/engine/status"),
        format!("cat /proc/{engine}/environ"),
        format!("kill {engine}"),
        format!("kill -9 {engine}"),
        format!("kill -9 {}", std::process::id()),
    ] {
        let answer = as_nobody(&command);
        assert!(
            answer.contains("denied") || answer.contains("not permitted"),
            "{command}: {answer}"
        );
    }
    let secrets = [endpoint.password.as_str(), &endpoint.key];
    nothing_secret_is_shown(options, engine, &secrets);
    assert_eq!(engines(&options.data_dir), [engine], "it still runs");
}

/// Who looks at processes and logs, even as root, sees none of these.
fn nothing_secret_is_shown(options: &StoreOptions, engine: i32, secrets: &[&str]) {
    let log = fs::read(options.data_dir.join("engine.log")).expect("there is one");
    let proc = |name: &str| fs::read(format!("/proc/{engine}/{name}")).expect("it runs");
    let places = [
        ("log", log),
        ("arguments", proc("cmdline")),
        ("environment", proc("environ")),
    ];
    for (place, bytes) in places {
        let shown = String::from_utf8_lossy(&bytes);
        for secret in secrets {
            assert!(secret.len() >= 32, "a real one");
            assert!(!shown.contains(secret), "{place}: {shown}");
        }
    }
    let users = fs::read_to_string(options.data_dir.join("config/users.xml"));
    assert!(!users.expect("ours").contains(secrets[0]), "only its hash");
}

/// A shell command that posts a statement by bash's own means.
fn post(port: u16, statement: &str, headers: &str) -> String {
    let length = statement.len();
    let request = format!(
        "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\
         {headers}\r\n{statement}"
    );
    send(port, &request)
}

/// A shell command that sends one request by bash's own means.
fn get(port: u16, path: &str, headers: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n");
    send(port, &request)
}

fn send(port: u16, request: &str) -> String {
    let request = request
        .replace('\r', "\\r")
        .replace('\n', "\\n")
        .replace('%', "%%")
        .replace('\'', "\\047");
    format!("exec 3<>/dev/tcp/127.0.0.1/{port}; printf '{request}' >&3; cat <&3")
}

/// What a command of an ordinary user prints.
fn as_nobody(command: &str) -> String {
    let output = nobodys(command)
        .output()
        .expect("these tests run as root, and bash is there");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn nobodys(command: &str) -> Command {
    let mut bash = Command::new("bash");
    bash.args(["-c", &format!("exec 2>&1; {command}")])
        .current_dir("/")
        .uid(NOBODY)
        .gid(NOBODY);
    bash
}
