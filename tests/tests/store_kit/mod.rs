//! What the store's tests need: private directories, the `pinger` program, a ClickHouse server
//! with users of its own and a wire to it, rows.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use pinger::config::{Source, SpoolOptions, StoreChoice, StoreOptions};
use pinger::destination::{Destination, FlowIndex, From, Protocol};
use pinger::result::{Answer, Outcome, ProbeResult};
use pinger::rows::{ResultRow, RowChunk, RowKeys};
use pinger::stats::RowCounts;
use pinger::store::{RunInfo, Store, StoreError, Timeouts};
use pinger_ebpf::layout::AnswerKind;
pub(crate) use wire::Wire;

pub(crate) mod wire;

static COUNT: AtomicU32 = AtomicU32::new(0);

/// Longer than any start, stop or retry takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A directory of our own, removed when dropped.
pub(crate) struct Home(pub(crate) PathBuf);

impl Home {
    pub(crate) fn new() -> Self {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("pinger-test-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).expect("the temporary directory is writable");
        Self(path)
    }

    pub(crate) fn embedded(&self) -> StoreOptions {
        required("PINGER_BIN");
        required("PINGER_LIBCHDB");
        StoreOptions {
            choice: StoreChoice::Embedded,
            port: None,
            password_file: None,
            data_dir: self.0.join("data"),
            spool: SpoolOptions::default(),
        }
    }

    /// `pinger sql` on this home's embedded store; the answer.
    pub(crate) fn sql(&self, query: &str) -> String {
        let output = self.pinger(&["sql", query]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{query}: {error}");
        String::from_utf8(output.stdout).expect("text")
    }

    pub(crate) fn pinger(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("PINGER_BIN runs")
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(required("PINGER_BIN"));
        command
            .args(arguments)
            .arg("--data-dir")
            .arg(self.0.join("data"));
        command
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // A directory left in the temporary one is no reason to fail.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The value of a variable that `cargo xtask test` sets.
pub(crate) fn required(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!(
            "{name} is not set: run these tests by `cargo xtask test`, or set PINGER_BIN to a \
             built `pinger` and PINGER_LIBCHDB to libchdb.so"
        )
    })
}

pub(crate) const SOURCE: Source = Source {
    id: 3,
    location: 37,
    host: 12,
    sourceid: 22,
};

/// The source's keys of a run that began at `run` on the wall clock, when the monotonic clock
/// stood at zero.
pub(crate) fn keys(run: u64) -> RowKeys {
    RowKeys {
        run,
        source: SOURCE.id,
        rsite: SOURCE.location,
        rhost: SOURCE.host,
        wall_offset_ns: i64::try_from(run).expect("this century"),
    }
}

pub(crate) fn run_info(run: u64) -> RunInfo {
    RunInfo {
        run,
        interface: "lo".to_owned(),
        mode: "test".to_owned(),
        wall_offset_ns: keys(run).wall_offset_ns,
        address: Some("192.0.2.1".parse().expect("an address")),
    }
}

/// Wall clock nanoseconds, `ago` before now.
pub(crate) fn wall_ns(ago: Duration) -> u64 {
    let now = std::time::UNIX_EPOCH.elapsed().expect("after 1970") - ago;
    u64::try_from(now.as_nanos()).expect("this century")
}

pub(crate) fn destination(id: u64, name: &str, address: &str) -> Destination {
    let address = address.parse().expect("an address");
    Destination {
        id,
        name: name.to_owned(),
        address,
        protocol: Protocol::echo(address),
        interval_ns: 1_000_000_000,
        timeout_ns: 500_000_000,
        size: 56,
        ..Destination::echo(address)
    }
}

/// Two destinations, one a family; the id of the second one needs all 64 bits.
pub(crate) fn destinations() -> Vec<Destination> {
    vec![
        destination(121, "host1.example.com", "192.0.2.4"),
        Destination {
            port: 443,
            data: Some(Arc::from(*b"ab\0")),
            traffic_class: 184,
            dont_fragment: false,
            from: Some(From::Interface("eth7".to_owned())),
            interface: Some("eth9".to_owned()),
            ..destination(u64::MAX - 1, "2001:db8::4", "2001:db8::4")
        },
    ]
}

pub(crate) fn open(options: &StoreOptions, run: u64) -> Result<Store, StoreError> {
    open_within(&Timeouts::default(), options, run)
}

/// The same with other limits for a server that is silent.
pub(crate) fn open_within(
    timeouts: &Timeouts,
    options: &StoreOptions,
    run: u64,
) -> Result<Store, StoreError> {
    Store::open_within(timeouts, options, &SOURCE, &destinations(), &run_info(run))
}

/// A result due `sequence` seconds after the start.
pub(crate) fn result(sequence: u64, outcome: Outcome, answer: Option<Answer>) -> ProbeResult {
    let due_ns = sequence * 1_000_000_000;
    ProbeResult {
        flow: FlowIndex(0),
        sequence,
        identifier: 39_821,
        ttl: 64,
        hops: 0,
        due_ns,
        tx_ns: due_ns + 250,
        outcome,
        answer,
        jitter_ns: 0,
        hop_limit_changed: false,
    }
}

pub(crate) fn answer(rtt_ns: u64, responder: &str) -> Option<Answer> {
    Some(Answer {
        rtt_ns: Some(rtt_ns),
        responder: responder.parse().expect("an address"),
        kind: Some(AnswerKind::Echo),
        icmp_type: 0,
        icmp_code: 0,
        hop_limit: Some(57),
        traffic_class: Some(0),
        mismatch_at: None,
    })
}

/// A chunk of replies from the first destination.
pub(crate) fn chunk(run: u64, number: u64, rows: u64) -> RowChunk {
    let keys = keys(run);
    let rows = (number * rows..(number + 1) * rows).map(|sequence| {
        let result = result(sequence, Outcome::Reply, answer(1_000_000, "192.0.2.4"));
        keys.row(121, &result)
    });
    chunk_of(rows.collect())
}

/// 10,000 rows that hardly compress.
pub(crate) fn noisy_chunk(run: u64, number: u64) -> RowChunk {
    let mut chunk = chunk(run, number, 10_000);
    for row in &mut chunk.rows {
        let noise = row
            .sequence
            .wrapping_add(1)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        row.rtt = Some(noise >> 16);
        row.lag = noise.rotate_left(17) >> 16;
    }
    chunk
}

/// A chunk of any rows, which came when they were due.
pub(crate) fn chunk_of(rows: Vec<ResultRow>) -> RowChunk {
    let due = || rows.iter().map(|row| row.time_due);
    let ends = |row: &&ResultRow| row.outcome <= Outcome::SendFailed as i8;
    RowChunk {
        from_ns: due().min().expect("rows"),
        until_ns: due().max().expect("rows"),
        probes: rows.iter().filter(ends).count() as u64,
        rows,
    }
}

/// Waits until `done`, and fails with `what` if that does not come.
pub(crate) fn await_that(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(
            Instant::now() < deadline,
            "waited {PATIENCE:?} in vain: {what}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits for a notice; gives all that came until then.
pub(crate) fn await_notice(store: &Store, text: &str) -> Vec<String> {
    let mut told: Vec<String> = Vec::new();
    await_that(text, || {
        told.extend(store.notices().try_iter());
        told.iter().any(|notice| notice.contains(text))
    });
    told
}

pub(crate) fn all_written(rows: u64) -> RowCounts {
    RowCounts {
        written: rows,
        spooled: 0,
        dropped: 0,
    }
}

/// A ClickHouse server as an operator would run it: no secret header, users with passwords
/// `boss` (may do all), `reader` (may read), `strict` (may read and change no setting); all have
/// the password `geheim`.
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
    home: Home,
}

/// What a test's server has besides.
#[derive(Clone, Debug, Default)]
pub(crate) struct Extras {
    /// Elements of the main configuration.
    pub(crate) config: String,
    /// Elements of `users`.
    pub(crate) users: String,
    /// The port of ClickHouse's own protocol, if servers are to ask each other.
    pub(crate) tcp_port: Option<u16>,
}

/// A port that nobody listens on.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has ports");
    listener.local_addr().expect("it is bound").port()
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::start_with(&Extras::default())
    }

    pub(crate) fn start_with(extras: &Extras) -> Self {
        let home = Home::new();
        let port = free_port();
        let (config, users) = (home.0.join("config.xml"), home.0.join("users.xml"));
        fs::write(home.0.join("password"), "geheim\n").expect("our own directory");
        fs::write(
            &config,
            format!(
                "<clickhouse><users_config>{}</users_config>{}</clickhouse>",
                users.display(),
                extras.config
            ),
        )
        .expect("our own directory");
        let more = format!("{}</users>", extras.users);
        fs::write(&users, USERS.replace("</users>", &more)).expect("our own directory");
        let mut query = "SYSTEM START LISTEN HTTP; ".to_owned();
        let mut command = Command::new(required("PINGER_BIN"));
        command
            .args(["engine", &std::process::id().to_string(), "2", "library"])
            .arg(required("PINGER_LIBCHDB"))
            .arg(format!("--config-file={}", config.display()))
            .arg(format!("--path={}", home.0.join("server").display()))
            .arg(format!("--http_port={port}"))
            .arg("--listen_host=127.0.0.1");
        if let Some(port) = extras.tcp_port {
            command.arg(format!("--tcp_port={port}"));
            query.push_str("SYSTEM START LISTEN TCP; ");
        }
        let child = command
            .arg(format!(
                "--query={query}SELECT * FROM file('/dev/stdin', 'LineAsString') FORMAT Null"
            ))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("PINGER_BIN runs");
        let server = Self { child, port, home };
        for port in [Some(port), extras.tcp_port].into_iter().flatten() {
            await_that("the server answers", || {
                TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
            });
        }
        server
    }

    /// A store on this server, or on whatever forwards to it on another port.
    pub(crate) fn options(&self, user: &str, port: u16, database: &str) -> StoreOptions {
        StoreOptions {
            choice: StoreChoice::Url(format!("http://{user}@127.0.0.1:{port}/{database}")),
            port: None,
            password_file: Some(self.home.0.join("password")),
            data_dir: self.home.0.join("data"),
            spool: SpoolOptions::default(),
        }
    }

    pub(crate) fn boss(&self) -> StoreOptions {
        self.options("boss", self.port, "pinger")
    }

    /// `pinger sql` on this server.
    pub(crate) fn sql(&self, query: &str) -> String {
        self.sql_in("pinger", query)
    }

    /// The same in another database.
    pub(crate) fn sql_in(&self, database: &str, query: &str) -> String {
        let url = format!("http://boss@127.0.0.1:{}/{database}", self.port);
        let output = Command::new(required("PINGER_BIN"))
            .args(["sql", query, "--store", &url])
            .env("PINGER_STORE_PASSWORD", "geheim")
            .output()
            .expect("PINGER_BIN runs");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{query}: {error}");
        String::from_utf8(output.stdout).expect("text")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // It ends by the closed pipe; the signal is for one that hangs.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const USERS: &str = "<clickhouse>
<profiles><default></default><reading><readonly>2</readonly></reading>
<strict><readonly>1</readonly></strict></profiles>
<quotas><default></default></quotas>
<users>
<default><password></password><networks><ip>127.0.0.1</ip></networks>
<profile>default</profile><quota>default</quota>
<grants><query>GRANT SYSTEM LISTEN ON *.*</query><query>GRANT READ ON FILE</query>
<query>GRANT CREATE TEMPORARY TABLE ON *.*</query></grants></default>
<boss><password>geheim</password><networks><ip>127.0.0.1</ip></networks>
<profile>default</profile><quota>default</quota>
<grants><query>GRANT ALL ON *.*</query></grants></boss>
<reader><password>geheim</password><networks><ip>127.0.0.1</ip></networks>
<profile>reading</profile><quota>default</quota>
<grants><query>GRANT SELECT ON *.*</query><query>GRANT SHOW ON *.*</query></grants></reader>
<strict><password>geheim</password><networks><ip>127.0.0.1</ip></networks>
<profile>strict</profile><quota>default</quota>
<grants><query>GRANT SELECT ON *.*</query></grants></strict>
</users>
</clickhouse>
";

/// A server with our tables, a wire to it that can be cut, and the way to it by that wire.
pub(crate) fn behind_a_wire() -> (Server, Wire, StoreOptions) {
    let server = Server::start();
    let wire = Wire::to(server.port);
    pinger::store::apply_schema(&server.boss()).expect("boss may");
    let options = server.options("boss", wire.port, "pinger");
    (server, wire, options)
}

/// Rows, distinct rows, and what the rollups of both steps say.
pub(crate) const SUMS: &str = "SELECT (SELECT (count(), uniqExact(run, destination, sequence)) FROM results), \
     (SELECT sum(reply) FROM results_minute), (SELECT sum(reply) FROM results_hour) FORMAT TSV";

pub(crate) fn sums(rows: u64) -> String {
    format!("({rows},{rows})\t{rows}\t{rows}\n")
}

/// The processes that run an engine on this directory.
pub(crate) fn engines(data_dir: &Path) -> Vec<i32> {
    let needle = data_dir.to_string_lossy().into_owned();
    let processes = fs::read_dir("/proc").expect("procfs is mounted").flatten();
    processes
        .filter_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let command = fs::read_to_string(entry.path().join("cmdline")).ok()?;
            (command.starts_with("pinger-engine") && command.contains(&needle)).then_some(pid)
        })
        .collect()
}
