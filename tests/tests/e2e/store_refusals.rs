//! What the store refuses is said before the first probe, and nothing is left; a store that is
//! away refuses nothing.

use std::net::TcpListener;

use xtask::lab::Shape;

use crate::harness::{Site, alone};

const REFUSED: i32 = 1;

#[test]
fn a_port_that_is_taken() {
    let _turn = alone();
    let site = Site::new(Shape::default());
    let listener = site
        .lab
        .prober()
        .enter(|| TcpListener::bind("127.0.0.1:0").unwrap())
        .unwrap();
    let port = listener.local_addr().unwrap().port();
    let running = site.start_stored(&format!("--format json --store-port {port} 198.18.0.1"));
    running.end().assert_refused(
        REFUSED,
        &[
            &format!("port {port} on 127.0.0.1 is taken"),
            "--store-port",
            "ss -ltnp",
        ],
    );
    site.assert_clean();
}

#[test]
fn a_server_that_is_not_there_is_not_waited_for() {
    let _turn = alone();
    let site = Site::new(Shape::default());
    let ended = site.run(&format!(
        "run --store http://me@127.0.0.1:1/net --data-dir {} --format json --count 3 \
         --interval 200ms --timeout 500ms 198.18.0.1",
        site.data_dir()
    ));
    assert!(ended.status.success(), "{}", ended.err);
    for words in [
        "cannot reach ClickHouse at http://me@127.0.0.1:1/net",
        "3 results wait in",
    ] {
        assert!(ended.err.contains(words), "no {words:?} in {}", ended.err);
    }
    let report = ended.report();
    report.assert_counts(&[("reply", 3), ("rows.spooled", 3), ("rows.dropped", 0)]);
    site.assert_clean();
}

#[test]
fn a_data_directory_that_another_pinger_uses() {
    let _turn = alone();
    let (site, other) = (Site::new(Shape::default()), Site::new(Shape::default()));
    let mut first = site.start_stored("--format plain --interval 100ms 198.18.0.1");
    first.line("figures", |line| line.contains("  rate "));
    let id = first.id();
    let second = other.run(&format!(
        "run --data-dir {} --format json 198.18.0.1",
        site.data_dir()
    ));
    second.assert_refused(
        REFUSED,
        &[
            "is in use by",
            &site.data_dir(),
            &format!("process {id}"),
            "--data-dir",
        ],
    );
    other.assert_clean();
    first.signal(libc::SIGINT);
    let ended = first.end();
    assert!(ended.status.success(), "{}", ended.err);
    site.assert_clean();
}

#[test]
fn a_schema_of_a_newer_version() {
    let _turn = alone();
    let site = Site::new(Shape::default());
    let arguments = "--format json --count 1 --timeout 1s 198.18.0.1";
    site.start_stored(arguments).end().report();
    let ours = pinger::store::schema::VERSION;
    let newer = ours + 1;
    site.sql(&format!(
        "INSERT INTO schema_migrations (version, name, checksum, program) \
         SELECT {newer}, 'from_the_future', repeat('0', 64), '9.9.9'"
    ));
    let ended = site.start_stored(arguments).end();
    ended.assert_refused(
        REFUSED,
        &[
            &format!("has version {newer}"),
            &format!("knows up to version {ours}"),
            "--data-dir",
        ],
    );
    site.assert_clean();
}

#[test]
fn an_engine_that_is_not_there() {
    let _turn = alone();
    let site = Site::new(Shape::default());
    let gone = site.folder.path().join("libchdb.so");
    let mut command = site.lab.prober().command(crate::harness::program());
    command
        .args(["run", "--format", "json", "--data-dir", &site.data_dir()])
        .arg("198.18.0.1")
        .env("PINGER_LIBCHDB", &gone);
    let ended = crate::harness::Pinger::start(command).end();
    ended.assert_refused(
        REFUSED,
        &["PINGER_LIBCHDB", gone.to_str().unwrap(), "unset it"],
    );
    site.assert_clean();
}
