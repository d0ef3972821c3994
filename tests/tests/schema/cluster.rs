//! The cluster's layout on two servers: what `schema print --cluster` prints, without replication
//! and `ON CLUSTER`, which the embedded engine does not have.

use std::path::Path;

use pinger::config::{StoreChoice, StoreOptions};
use pinger::stats::Counts;
use pinger::store::schema::cluster::{Cluster, parts};
use pinger::store::schema::{MIGRATIONS, Script, VERSION, print};

use crate::store_kit::{Extras, PATIENCE, Server, free_port, open, wall_ns};
use crate::{apply_at_once, said};

/// Two servers that know each other as the cluster `two`.
fn two_servers() -> [Server; 2] {
    let ports = [free_port(), free_port()];
    let shards: String = ports
        .iter()
        .map(|port| {
            format!(
                "<shard><internal_replication>true</internal_replication><replica>\
                 <host>127.0.0.1</host><port>{port}</port>\
                 <user>boss</user><password>geheim</password></replica></shard>"
            )
        })
        .collect();
    let config = format!("<remote_servers><two>{shards}</two></remote_servers>");
    ports.map(|port| {
        Server::start_with(&Extras {
            config: config.clone(),
            tcp_port: Some(port),
            ..Extras::default()
        })
    })
}

/// Makes a cluster's database of this version.
fn make(servers: &[Server; 2], database: &str, version: usize) {
    let cluster = Cluster {
        name: "two".to_owned(),
        database: database.to_owned(),
        is_replicated: false,
    };
    for part in parts(&cluster, &MIGRATIONS[..version]).expect("all have a form") {
        let count = if part.is_once { 1 } else { 2 };
        for server in &servers[..count] {
            server.sql_in(part.database.as_deref().unwrap_or("default"), &part.sql);
        }
    }
}

/// Results of 20 destinations for four minutes, with losses, an outage and traces, under a token,
/// and all that they name.
fn fill(server: &Server, database: &str, now: &str) {
    let settings = "SETTINGS async_insert = 0, insert_deduplicate = 1, \
         insert_deduplication_token = '3-1-7', distributed_foreground_insert = 1, \
         deduplicate_blocks_in_dependent_materialized_views = 1, optimize_on_insert = 0";
    server.sql_in(
        database,
        &format!(
            "INSERT INTO incoming (run, source, destination, sequence, time_due, rtt, outcome, \
                answer, address, ttl, hops, hop_limit, datamatch) {settings} \
             WITH number % 20 AS d, intDiv(number, 20) AS n, d >= 18 AS traced, \
                d = 5 AND n BETWEEN 40 AND 60 OR cityHash64(number) % 50 = 0 AS missed \
             SELECT 1, 3, d, n, toDateTime64('{now}', 9, 'UTC') - INTERVAL 240 - n SECOND, \
                if(missed, NULL, 1000000 + cityHash64(number) % 9000000), \
                multiIf(missed, 'lost', traced AND n % 4 < 3, 'error', 'reply'), \
                multiIf(missed, 'none', traced AND n % 4 < 3, 'icmp_error', 'echo'), \
                if(missed, toIPv6('::'), toIPv6('10.0.0.' || toString(1 + n % 4))), \
                if(traced, 1 + n % 4, 64), if(traced, 4, 0), 57, if(missed, NULL, true) \
             FROM numbers(4800)"
        ),
    );
    for rows in [
        "sources (id, name) SETTINGS distributed_foreground_insert = 1 SELECT 3, 'here'",
        "runs (run, source, started) SETTINGS distributed_foreground_insert = 1 \
         SELECT 1, 3, toDateTime64('2026-11-01 10:00:00', 9, 'UTC')",
        "destinations (id, name, address, protocol, interval) \
         SETTINGS distributed_foreground_insert = 1 SELECT number, 'host' || toString(number), \
         toIPv6('10.0.1.' || toString(number)), 'ICMP', 1000000000 FROM numbers(20)",
    ] {
        server.sql_in(database, &format!("INSERT INTO {rows}"));
    }
}

/// Rows of every table that results go to.
fn rows(server: &Server, database: &str) -> Vec<String> {
    [
        "results",
        "misses",
        "results_run",
        "results_minute",
        "results_hour",
        "rtt_minute",
        "rtt_hour",
    ]
    .map(|table| {
        let sql = if table.starts_with("rtt") {
            format!("SELECT '{table}', sum(count) FROM {table} FORMAT TSV")
        } else if table.starts_with("results_") {
            format!("SELECT '{table}', sum(reply), sum(lost) FROM {table} FORMAT TSV")
        } else {
            format!("SELECT '{table}', count() FROM {table} FORMAT TSV")
        };
        server.sql_in(database, &sql)
    })
    .into()
}

/// An answer whose rows may come in any order where they are equal by what they are sorted by.
fn sorted(answer: &str) -> Vec<&str> {
    let mut lines: Vec<_> = answer.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn two_shards_answer_as_one_server_does() {
    let servers = two_servers();
    let one = &servers[0];
    make(&servers, "net", MIGRATIONS.len());
    apply_at_once(one, "one", 1);
    let now = one.sql_in("default", "SELECT now('UTC') FORMAT TSV");
    fill(one, "one", now.trim());
    for server in &servers {
        fill(server, "net", now.trim());
        assert_eq!(
            rows(server, "net"),
            rows(one, "one"),
            "again and from elsewhere: nothing new"
        );
    }
    for server in &servers {
        let there: u64 = server
            .sql_in("net_shard", "SELECT count() FROM results FORMAT TSV")
            .trim()
            .parse()
            .expect("a number");
        assert!((1_000..3_800).contains(&there), "both have a part: {there}");
    }
    let views = one.sql_in(
        "one",
        "SELECT name FROM system.tables WHERE database = 'one' AND engine = 'View' \
         AND create_table_query NOT LIKE '%{%:%}%' FORMAT TSV",
    );
    assert!(views.lines().count() >= 7, "{views}");
    let mut asked: Vec<String> = views
        .lines()
        .map(|view| format!("SELECT * FROM {view} FORMAT TSV"))
        .collect();
    let queries = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schema/queries");
    for file in std::fs::read_dir(queries).expect("the cookbook").flatten() {
        let sql = std::fs::read_to_string(file.path()).expect("text");
        // Bytes on disk are those of a server.
        if !sql.contains("FROM system.") {
            // Which of equal rows a limit lets through is chance.
            let is_last = |end: &str| end.trim().parse::<u32>().is_ok();
            let sql = match sql.rsplit_once("LIMIT") {
                Some((sql, end)) if is_last(end) => sql,
                _ => &sql,
            };
            asked.push(format!(
                "{sql}\nSETTINGS distributed_product_mode = 'global'"
            ));
        }
    }
    for sql in &asked {
        let expected = one.sql_in("one", sql);
        for server in &servers {
            assert_eq!(
                sorted(&server.sql_in("net", sql)),
                sorted(&expected),
                "{sql}"
            );
        }
    }
    let outages = one.sql_in("net", "SELECT name, probes FROM outages FORMAT TSV");
    assert!(outages.contains("host5\t21"), "{outages}");
}

#[test]
fn pinger_takes_a_cluster_for_a_server() {
    let servers = two_servers();
    make(&servers, "net", MIGRATIONS.len());
    let status = servers[1].schema("net", &["status"]).output();
    let status = status.expect("PINGER_BIN runs");
    let _ = said(&status);
    let told = String::from_utf8_lossy(&status.stdout);
    for text in [
        "as this pinger needs it",
        "cluster `two`",
        "`net_shard`",
        "7 days",
    ] {
        assert!(told.contains(text), "no {text:?} in {told}");
    }
    let run = wall_ns(std::time::Duration::ZERO);
    let options = StoreOptions {
        choice: StoreChoice::Url(format!("http://boss@127.0.0.1:{}/net", servers[0].port)),
        ..servers[0].boss()
    };
    open(&options, run)
        .expect("it fits")
        .close(&Counts::default(), PATIENCE);
    let runs = "SELECT run, ended IS NOT NULL FROM runs FINAL FORMAT TSV";
    assert_eq!(servers[1].sql_in("net", runs), format!("{run}\t1\n"));

    // What is there already is told by the database; an older one is not upgraded like a server's.
    said(
        &servers[0]
            .schema("net", &["apply"])
            .output()
            .expect("PINGER_BIN runs"),
    );
    make(&servers, "old", 2);
    let output = servers[0].schema("old", &["apply"]).output();
    let error = String::from_utf8(output.expect("PINGER_BIN runs").stderr).expect("text");
    let advice = "pinger schema print --cluster two --from 2";
    assert!(error.contains(advice), "{error}");
    assert_eq!(servers[0].locks("old"), "");
}

#[test]
fn what_is_printed_is_sql() {
    let server = Server::start();
    let script = Script {
        cluster: Some("two".to_owned()),
        database: Some("net".to_owned()),
        from: 0,
    };
    let mut printed = Vec::new();
    print(&mut printed, &script).expect("a vector takes all");
    let printed = String::from_utf8(printed).expect("text");
    let mut parsed = 0;
    for statement in printed
        .split(";\n\n")
        .filter(|text| !text.trim().is_empty())
    {
        if !statement.starts_with("USE ") {
            server.sql_in("default", &format!("EXPLAIN AST {}", code(statement)));
            parsed += 1;
        }
    }
    assert!(parsed > 30, "{parsed}");
    let records = printed.matches("INSERT INTO schema_migrations").count();
    assert_eq!(records, VERSION as usize);
}

/// A statement without the comments before it.
fn code(statement: &str) -> String {
    let lines = statement.lines();
    let lines: Vec<_> = lines.filter(|line| !line.starts_with("--")).collect();
    lines.join("\n")
}
