//! Another user of the same host: can neither read, write nor stop the embedded store.

#[expect(dead_code, reason = "other tests use the rest of the kit")]
mod store_kit;

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use pinger::config::StoreOptions;
use pinger::stats::Counts;
use store_kit::{Home, PATIENCE, engines, open, wall_ns};

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
        let text = std::fs::read_to_string(options.data_dir.join("endpoint.json"))
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
    let log = std::fs::read(options.data_dir.join("engine.log")).expect("there is one");
    let proc = |name: &str| std::fs::read(format!("/proc/{engine}/{name}")).expect("it runs");
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
    let users = std::fs::read_to_string(options.data_dir.join("config/users.xml"));
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
    const NOBODY: u32 = 65534;
    let output = Command::new("bash")
        .args(["-c", &format!("exec 2>&1; {command}")])
        .current_dir("/")
        .uid(NOBODY)
        .gid(NOBODY)
        .output()
        .expect("these tests run as root, and bash is there");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
