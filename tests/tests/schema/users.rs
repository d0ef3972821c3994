//! The rights in `schema/users.sql`: enough, and no more.

use std::path::Path;
use std::process::{Command, Output};

use pinger::config::StoreOptions;
use pinger::stats::Counts;

use crate::store_kit::{Extras, PATIENCE, Server, open, required, wall_ns};
use crate::{apply_at_once, said};

const ROLES: [&str; 3] = ["pinger_writer", "pinger_reader", "pinger_owner"];

fn repository(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    std::fs::read_to_string(path).expect("a file of the repository")
}

/// A server with a user for each role, who has the rights that the file gives to that role; and
/// as strict about system tables as ClickHouse's packages are.
fn server() -> Server {
    let file = repository("schema/users.sql");
    let users = ROLES.map(|role| {
        let end = format!(" TO {role};");
        let grants: String = file
            .lines()
            .filter_map(|line| line.strip_suffix(&end))
            .map(|grant| format!("<query>{grant}</query>"))
            .collect();
        assert!(!grants.is_empty(), "{role}");
        format!(
            "<{role}><password>geheim</password><networks><ip>127.0.0.1</ip></networks>\
             <profile>default</profile><quota>default</quota><grants>{grants}</grants></{role}>"
        )
    });
    let strict = "<access_control_improvements>\
         <select_from_system_db_requires_grant>true</select_from_system_db_requires_grant>\
         <select_from_information_schema_requires_grant>true\
         </select_from_information_schema_requires_grant>\
         </access_control_improvements>";
    Server::start_with(&Extras {
        config: strict.to_owned(),
        users: users.concat(),
        tcp_port: None,
    })
}

impl Server {
    fn by(&self, user: &str, arguments: &[&str]) -> Output {
        let url = format!("http://{user}@127.0.0.1:{}/pinger", self.port);
        Command::new(required("PINGER_BIN"))
            .args(arguments)
            .args(["--store", &url])
            .env("PINGER_STORE_PASSWORD", "geheim")
            .output()
            .expect("PINGER_BIN runs")
    }

    fn allows(&self, user: &str, sql: &str) -> String {
        let output = self.by(user, &["sql", sql]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{user}: {sql}: {error}");
        String::from_utf8(output.stdout).expect("text")
    }

    fn refuses(&self, user: &str, sql: &str) {
        let output = self.by(user, &["sql", sql]);
        let error = String::from_utf8_lossy(&output.stderr);
        let is_refused = error.contains("Not enough privileges") || error.contains("is read-only");
        assert!(
            !output.status.success() && is_refused,
            "{user}: {sql}: {error}"
        );
    }
}

#[test]
fn each_role_can_do_its_work_and_no_more() {
    let server = server();
    // The owner makes all, the database too.
    let _ = said(&server.by("pinger_owner", &["schema", "apply"]));
    let _ = said(&server.by("pinger_owner", &["schema", "retention", "--raw", "8d"]));

    // The writer is what `pinger run` is.
    let options: StoreOptions = server.options("pinger_writer", server.port, "pinger");
    let run = wall_ns(std::time::Duration::ZERO);
    open(&options, run)
        .expect("it may")
        .close(&Counts::default(), PATIENCE);
    let insert = "INSERT INTO incoming (run, destination, time_due, outcome) \
         VALUES (1, 1, now64(9), 'lost')";
    server.allows("pinger_writer", insert);
    for denied in [
        "SELECT rtt FROM results",
        "SELECT address FROM results",
        "SELECT detail FROM gaps",
        "SELECT count() FROM results_minute",
        "SELECT * FROM results_readable",
        "SELECT * FROM runs",
        "INSERT INTO results (run) VALUES (1)",
        "INSERT INTO schema_migrations (version) VALUES (9)",
        "TRUNCATE TABLE results",
        "DROP TABLE incoming",
        "ALTER TABLE incoming DROP COLUMN run",
        "CREATE TABLE x (a UInt8) ENGINE = Null",
    ] {
        server.refuses("pinger_writer", denied);
    }

    the_reader_reads_everything(&server, insert);
}

fn the_reader_reads_everything(server: &Server, insert: &str) {
    let rows = "SELECT count() FROM results FORMAT TSV";
    assert_eq!(
        server.allows("pinger_reader", rows),
        "1\n",
        "it went through the views"
    );
    assert_eq!(
        server.allows("pinger_reader", "SELECT count() FROM runs FINAL FORMAT TSV"),
        "1\n"
    );
    let views = server.allows(
        "pinger_reader",
        "SELECT name FROM system.tables WHERE database = 'pinger' AND engine = 'View' \
         AND create_table_query NOT LIKE '%{%:%}%' FORMAT TSV",
    );
    assert!(views.lines().count() >= 7, "{views}");
    for view in views.lines() {
        server.allows("pinger_reader", &format!("SELECT * FROM {view} LIMIT 1"));
    }
    let queries = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schema/queries");
    for file in std::fs::read_dir(queries).expect("the cookbook").flatten() {
        let sql = std::fs::read_to_string(file.path()).expect("text");
        server.allows("pinger_reader", &sql);
    }
    for table in [
        "results",
        "per_minute",
        "per_hour",
        "outages",
        "gaps",
        "runs",
    ] {
        let arguments = ["export", "--from", "1h", "--table", table];
        let _ = said(&server.by("pinger_reader", &arguments));
    }
    let status = server.by("pinger_reader", &["schema", "status"]);
    let _ = said(&status);
    let told = String::from_utf8_lossy(&status.stdout);
    assert!(
        told.contains("8 days") && !told.contains("not for us"),
        "{told}"
    );
    for denied in [
        insert,
        "INSERT INTO results (run) VALUES (1)",
        "TRUNCATE TABLE results",
        "DROP VIEW outages",
        "ALTER TABLE results MODIFY TTL toDateTime(time_due) + INTERVAL 1 DAY",
    ] {
        server.refuses("pinger_reader", denied);
    }
    let retention = server.by("pinger_reader", &["schema", "retention", "--raw", "1d"]);
    assert!(!retention.status.success());
}

#[test]
fn the_page_for_operators_has_the_rights_as_they_are() {
    let page = repository("docs/store.md");
    let block = format!("```sql\n{}```\n", repository("schema/users.sql"));
    assert!(
        page.contains(&block),
        "docs/store.md shows another schema/users.sql"
    );
}

#[test]
fn a_writer_waits_for_nobody_to_apply_the_schema() {
    let server = server();
    apply_at_once(&server, "pinger", 1);
    let again = server.by("pinger_writer", &["schema", "apply"]);
    assert!(
        said(&again)[0].contains("nothing to do"),
        "no right is needed for nothing"
    );
}
