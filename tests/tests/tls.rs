//! A ClickHouse behind TLS, and what keeps the password secret on the way to it.

#[expect(dead_code, reason = "other tests use the rest of the kit")]
mod store_kit;

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use pinger::config::{StoreChoice, StoreOptions};
use pinger::stats::Counts;
use rcgen::CertifiedKey;
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use store_kit::{
    Home, PATIENCE, Server, Wire, all_written, await_notice, await_that, chunk, open, required,
    wall_ns,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

/// What stands before a server and speaks TLS, with a certificate that it signed itself.
struct Front {
    port: u16,
    /// The file with the certificate, for SSL_CERT_FILE.
    trusted: PathBuf,
    /// Ends what it runs when dropped.
    _runtime: Runtime,
}

impl Front {
    fn before(server: &Server, home: &Home, name: &str) -> Self {
        let CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed([name.to_owned()]).expect("a name");
        let trusted = home.0.join(format!("{name}.pem"));
        fs::write(&trusted, cert.pem()).expect("our own directory");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = PrivatePkcs8KeyDer::from(signing_key.serialize_der());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key.into())
            .expect("the key is the certificate's");
        let runtime = Runtime::new().expect("threads are left");
        let listener = runtime
            .block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
            .expect("loopback has ports");
        let port = listener.local_addr().expect("it is bound").port();
        runtime.spawn(forward(
            listener,
            TlsAcceptor::from(Arc::new(config)),
            server.port,
        ));
        Self {
            port,
            trusted,
            _runtime: runtime,
        }
    }

    fn url(&self, host: &str) -> String {
        format!("https://boss@{host}:{}/pinger", self.port)
    }
}

async fn forward(listener: TcpListener, acceptor: TlsAcceptor, target: u16) {
    while let Ok((client, _)) = listener.accept().await {
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            // A client that does not trust us goes away.
            let Ok(mut client) = acceptor.accept(client).await else {
                return;
            };
            let Ok(mut server) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await else {
                return;
            };
            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        });
    }
}

/// `pinger` with a password and a file of certificates that it is to trust.
fn pinger(arguments: &[&str], trusted: &PathBuf) -> Output {
    Command::new(required("PINGER_BIN"))
        .args(arguments)
        .env("PINGER_STORE_PASSWORD", "geheim")
        .env("SSL_CERT_FILE", trusted)
        .output()
        .expect("PINGER_BIN runs")
}

/// Where the test that runs as a process of its own finds the URL.
const ALONE: &str = "PINGER_TEST_TLS_URL";

/// In two processes, since the variable that names the certificates is the process's.
#[test]
fn rows_reach_a_server_by_https() {
    if let Ok(url) = std::env::var(ALONE) {
        return write_rows(url);
    }
    let (server, home) = (Server::start(), Home::new());
    let front = Front::before(&server, &home, "localhost");
    let url = front.url("localhost");
    let applied = pinger(&["schema", "apply", "--store", &url], &front.trusted);
    let error = String::from_utf8_lossy(&applied.stderr);
    assert!(applied.status.success(), "{error}");

    let output = Command::new(std::env::current_exe().expect("a test is a file"))
        .args(["--exact", "rows_reach_a_server_by_https"])
        .env(ALONE, &url)
        .env("PINGER_STORE_PASSWORD", "geheim")
        .env("SSL_CERT_FILE", &front.trusted)
        .output()
        .expect("a test runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("1 passed"), "{said}");
    let query = "SELECT count(), uniqExact(sequence) FROM results FORMAT TSV";
    let asked = pinger(&["sql", query, "--store", &url], &front.trusted);
    let error = String::from_utf8_lossy(&asked.stderr);
    assert_eq!(
        String::from_utf8_lossy(&asked.stdout),
        "30000\t30000\n",
        "{error}"
    );
}

fn write_rows(url: String) {
    let home = Home::new();
    let options = StoreOptions {
        choice: StoreChoice::Url(url),
        password_file: None,
        ..home.embedded()
    };
    let run = wall_ns(Duration::from_secs(100_000));
    let store = open(&options, run).expect("it is reachable");
    for number in 0..3 {
        store.sender().offer(chunk(run, number, 10_000));
    }
    assert_eq!(
        store.close(&Counts::default(), PATIENCE),
        all_written(30_000)
    );
}

#[test]
fn a_server_that_is_not_trusted_gets_nothing() {
    const NAME: &[&str] = &["not valid for name"];
    let (server, home) = (Server::start(), Home::new());
    let front = Front::before(&server, &home, "localhost");
    let other = Front::before(&server, &home, "elsewhere.example");
    let plain = format!("https://boss@localhost:{}/pinger", server.port);
    for (url, trusted, reasons) in [
        // Signed by somebody else than who is trusted.
        (
            front.url("localhost"),
            &other.trusted,
            &["invalid peer certificate"][..],
        ),
        // Trusted, but of another name.
        (front.url("127.0.0.1"), &front.trusted, NAME),
        (other.url("localhost"), &other.trusted, NAME),
        // No TLS there. Where no byte of the greeting, which is random, ends a line, the server
        // waits for the rest of what it takes for a request.
        (
            plain,
            &front.trusted,
            &["InvalidContentType", "says nothing"],
        ),
    ] {
        let output = pinger(&["sql", "SELECT 1", "--store", &url], trusted);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{url}: {error}");
        assert!(error.contains("no safe connection"), "{url}: {error}");
        let is_told = reasons.iter().any(|reason| error.contains(reason));
        assert!(is_told, "{url}: {error}");
        assert!(error.contains("SSL_CERT_FILE"), "{url}: {error}");
        assert!(!error.contains("geheim"), "{error}");
    }
}

#[test]
fn a_wrong_password_is_not_repeated() {
    const SECRET: &str = "s3cret-of-nobody";
    let (server, home) = (Server::start(), Home::new());
    let file = home.0.join("password");
    fs::write(&file, SECRET).expect("our own directory");
    let file = file.display().to_string();
    let url = format!("http://boss@127.0.0.1:{}/pinger", server.port);
    let inside = format!("http://boss:{SECRET}@127.0.0.1:{}/pinger", server.port);
    for (arguments, status) in [
        (vec!["sql", "SELECT 1", "--store", &url], 1),
        (
            vec![
                "sql",
                "SELECT 1",
                "--store",
                &url,
                "--store-password-file",
                &file,
            ],
            1,
        ),
        (vec!["schema", "apply", "--store", &url], 1),
        (vec!["export", "--store", &url], 1),
        (vec!["sql", "SELECT 1", "--store", &inside], 2),
    ] {
        let output = Command::new(required("PINGER_BIN"))
            .args(&arguments)
            .env("PINGER_STORE_PASSWORD", SECRET)
            .output()
            .expect("PINGER_BIN runs");
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {error}");
        assert!(
            error.contains("password") || error.contains("PASSWORD"),
            "{error}"
        );
        for said in [&output.stdout, &output.stderr] {
            assert!(
                !String::from_utf8_lossy(said).contains(SECRET),
                "{arguments:?}"
            );
        }
    }
}

/// What must be nowhere: the password of the server's users, as it is and as HTTP would carry it
/// together with the user.
const SECRETS: [&str; 2] = ["geheim", "Ym9zczpnZWhlaW0="];

fn assert_secret(place: &str, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for secret in SECRETS {
        assert!(!text.contains(secret), "{place}: {text}");
    }
}

/// Files under a directory with what is in them, whoever removes some meanwhile.
fn files(folder: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            files(&entry.path(), found);
        } else if let Ok(bytes) = fs::read(entry.path()) {
            found.push((entry.path().display().to_string(), bytes));
        }
    }
}

/// No file of the data directory has the password; one has what stands beside it in the URL.
fn assert_files_secret(options: &StoreOptions, beside: &str) {
    let mut found = Vec::new();
    files(&options.data_dir, &mut found);
    for (name, bytes) in &found {
        assert_secret(name, bytes);
    }
    let has = |bytes: &[u8]| String::from_utf8_lossy(bytes).contains(beside);
    assert!(
        found.iter().any(|(_, bytes)| has(bytes)),
        "the test can tell"
    );
}

#[test]
fn a_run_leaves_its_password_nowhere() {
    let server = Server::start();
    let mut wire = Wire::to(server.port);
    pinger::store::apply_schema(&server.boss()).expect("boss may");
    let options = server.options("boss", wire.port, "pinger");
    let beside = format!("127.0.0.1:{}/pinger", wire.port);
    let run = wall_ns(Duration::from_secs(100));
    let store = open(&options, run).expect("it is there");
    let notices = store.notices().clone();
    assert_secret("description", store.description().as_bytes());

    // Rows that are written, and some that are refused.
    server.sql("ALTER TABLE results ADD CONSTRAINT test CHECK rhost != 99");
    let sender = store.sender();
    for number in 0..2 {
        let mut chunk = chunk(run, number, 5);
        if number == 1 {
            chunk.rows[3].rhost = 99;
        }
        sender.offer(chunk);
        await_that("it is done", || sender.counts().spooled == 0);
    }
    let mut told = await_notice(&store, "pinger spool retry");
    assert_files_secret(&options, &beside);
    // Rows that wait, as the server is away.
    wire.cut();
    sender.offer(chunk(run, 2, 5));
    told.extend(await_notice(&store, "the store does not take rows"));
    assert_secret("trouble", format!("{:?}", store.trouble()).as_bytes());
    store.close(&Counts::default(), Duration::ZERO);
    told.extend(notices.try_iter());
    assert_secret("notices", told.join("\n").as_bytes());
    assert_files_secret(&options, &beside);

    // Away, refused again, sent, done.
    let url = format!("http://boss@{beside}");
    for (code, words) in [(1, "cannot reach"), (3, "stays: "), (0, "into incoming")] {
        let output = retry(&options, &url);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(words), "{said}");
        assert_secret("retry", &output.stderr);
        assert_secret("retry", &output.stdout);
        assert_files_secret(&options, &beside);
        match code {
            1 => {
                wire.mend();
                // It sends what waits: the gap that tells of the refused rows.
                let next = open(&options, run + 1).expect("it is there");
                await_that("what waited is written", || {
                    server.sql("SELECT count() FROM gaps FORMAT TSV") == "1\n"
                });
                next.close(&Counts::default(), PATIENCE);
            }
            3 => drop(server.sql("ALTER TABLE results DROP CONSTRAINT test")),
            _ => {}
        }
    }
}

fn retry(options: &StoreOptions, url: &str) -> Output {
    Command::new(required("PINGER_BIN"))
        .args(["spool", "retry", "--store", url, "--data-dir"])
        .arg(&options.data_dir)
        .env("PINGER_STORE_PASSWORD", "geheim")
        .output()
        .expect("PINGER_BIN runs")
}
