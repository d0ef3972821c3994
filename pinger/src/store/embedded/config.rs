//! The engine's configuration: few threads, little memory, and nobody let in but us.
//!
//! ClickHouse on loopback is open to every local user, so there are two locks. Requests without
//! a secret header reach no handler at all, nor do those of any user but ours; and that one user
//! has a password. Both secrets are drawn afresh at each start. The user `default`, as whom the
//! library's engine runs its start query, may do only that, but has no password and may read files
//! for it, which is why it cannot be had by HTTP even with the header.

use std::fmt::Write;
use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::store::StoreError;
use crate::store::clickhouse::DATABASE;
use crate::store::schema::hex;

/// The user that pinger is.
pub(super) const USER: &str = "pinger";

/// The header without which the engine answers nothing.
pub(super) const HEADER: &str = "X-Pinger-Key";

/// Bytes of randomness in each secret: as many as the keys of a strong cipher have.
const SECRET_BYTES: usize = 32;

/// What the engine may use at most: a monitoring host has other work. Merges and the queries of
/// the cookbook stay below.
const MEMORY_MAX: u64 = 2 << 30;

/// What it needs at least.
const MEMORY_MIN: u64 = 512 << 20;

/// Password and header value of one start.
pub(super) struct Secrets {
    pub(super) password: String,
    pub(super) key: String,
}

impl Secrets {
    /// Draws both from the kernel.
    pub(super) fn draw() -> Result<Self, StoreError> {
        let random = "/dev/urandom";
        let draw = || -> io::Result<String> {
            let mut bytes = [0; SECRET_BYTES];
            std::fs::File::open(random)?.read_exact(&mut bytes)?;
            Ok(hex(&bytes))
        };
        let hint = "this system lacks its random device: mount /dev";
        let failed = || StoreError::file("read", random, hint);
        Ok(Self {
            password: draw().map_err(failed())?,
            key: draw().map_err(failed())?,
        })
    }
}

/// What goes into the main configuration file.
pub(super) struct Settings<'a> {
    pub(super) users: &'a Path,
    pub(super) data: &'a Path,
    pub(super) port: u16,
    pub(super) key: &'a str,
    pub(super) memory_bytes: u64,
    /// Whether a `clickhouse server` reads this. The library's engine would log every step, for
    /// it takes no level, but says why it ends without being told to log.
    pub(super) server: bool,
}

impl Settings<'_> {
    /// The file. The port is one that pinger holds, see [`HeldPort`](super::port::HeldPort), and
    /// the engine shares. The library's engine ignores what it is told by arguments instead
    /// (listening, paths); a `clickhouse server` needs it all.
    pub(super) fn xml(&self) -> String {
        let data = escape(&self.data.to_string_lossy());
        let users = escape(&self.users.to_string_lossy());
        let (port, key) = (self.port, self.key);
        let mut xml = format!(
            "<clickhouse>\n\
             <listen_host>127.0.0.1</listen_host>\n\
             <http_port>{port}</http_port>\n\
             <listen_reuse_port>1</listen_reuse_port>\n\
             <path>{data}/</path>\n\
             <tmp_path>{data}/tmp/</tmp_path>\n\
             <user_files_path>{data}/user_files/</user_files_path>\n\
             <users_config>{users}</users_config>\n\
             <default_profile>default</default_profile>\n\
             <default_database>default</default_database>\n\
             <timezone>UTC</timezone>\n\
             <http_handlers><rule>\
             <headers><{HEADER}>{key}</{HEADER}>\
             <X-ClickHouse-User>{USER}</X-ClickHouse-User></headers>\
             <handler><type>dynamic_query_handler</type>\
             <query_param_name>query</query_param_name></handler>\
             </rule></http_handlers>\n",
        );
        if self.server {
            xml.push_str("<logger><level>warning</level><console>1</console></logger>\n");
        }
        for (name, value) in LIMITS {
            // Writing to a string cannot fail.
            let _ = writeln!(xml, "<{name}>{value}</{name}>");
        }
        xml.push_str(MERGE_TREE);
        let memory = self.memory_bytes;
        let _ = writeln!(
            xml,
            "<max_server_memory_usage>{memory}</max_server_memory_usage>"
        );
        xml.push_str("</clickhouse>\n");
        xml
    }
}

/// The most connections that are served at a time; as many again wait for their turn.
const CONNECTIONS_MAX: u64 = 1024;

/// How long a connection may say nothing where it should, seconds. Pinger says all at once.
const SILENCE_MAX: u64 = 5;

/// Threads and caches: the engine shares few cores with a sender that must be on time, and holds
/// one table of weight.
const LIMITS: [(&str, u64); 14] = [
    // Two merges at a time keep up with more rows than the writer sends.
    ("background_pool_size", 2),
    ("background_merges_mutations_concurrency_ratio", 1),
    ("background_common_pool_size", 2),
    ("background_move_pool_size", 1),
    ("background_fetches_pool_size", 1),
    ("background_schedule_pool_size", 4),
    ("background_message_broker_schedule_pool_size", 1),
    ("background_distributed_schedule_pool_size", 1),
    ("background_buffer_flush_schedule_pool_size", 1),
    // Far more than the writer and those who ask need: any local user may connect, and those who
    // say nothing must not keep the writer out. Each takes a thread and two file descriptors.
    ("max_connections", CONNECTIONS_MAX),
    ("max_concurrent_queries", 16),
    ("max_thread_pool_size", 200),
    ("mark_cache_size", 64 << 20),
    ("uncompressed_cache_size", 0),
];

/// What each query is asked with, if the engine knows it.
pub(super) const QUERY_SETTINGS: [(&str, u64); 4] = [
    // ClickHouse since 26.4 (its pull request 100383) gives a query one thread for each gibibyte
    // that is free below the limit of memory, so here it would never have two. With so many bytes
    // it has six at most. The greediest query of the cookbook, `outages` over 100,000,000 results,
    // takes 110 MB a thread.
    ("max_threads_min_free_memory_per_thread", 256 << 20),
    // What a query computes is compiled when it is met for the third time, 20 ms a function; none
    // of the cookbook's takes less afterwards.
    ("compile_expressions", 0),
    ("compile_aggregate_expressions", 0),
    ("compile_sort_description", 0),
];

/// What is acknowledged is on disk: the spool deletes its own copy then.
const MERGE_TREE: &str = "<merge_tree><fsync_after_insert>1</fsync_after_insert>\
    <fsync_part_directory>1</fsync_part_directory></merge_tree>\n";

/// The users file.
pub(super) fn users(password: &str) -> String {
    let hash = hex(&Sha256::digest(password));
    let user = |name: &str, secret: &str, grants: &[&str]| {
        let grants: String = grants
            .iter()
            .map(|grant| format!("<query>GRANT {grant}</query>"))
            .collect();
        format!(
            "<{name}>{secret}<networks><ip>127.0.0.1</ip></networks>\
             <profile>default</profile><quota>default</quota>\
             <grants>{grants}</grants></{name}>\n"
        )
    };
    let default = user(
        "default",
        "<password></password>",
        &[
            "SYSTEM LISTEN ON *.*",
            "READ ON FILE",
            "CREATE TEMPORARY TABLE ON *.*",
        ],
    );
    let all = format!("ALL ON {DATABASE}.*");
    let grants = [
        &all,
        "SELECT ON system.*",
        "TABLE ENGINE ON *",
        "CREATE TEMPORARY TABLE ON *.*",
    ];
    let ours = user(
        USER,
        &format!("<password_sha256_hex>{hash}</password_sha256_hex>"),
        &grants,
    );
    format!(
        "<clickhouse>\n\
         <profiles><default><log_queries>0</log_queries>\
         <http_receive_timeout>{SILENCE_MAX}</http_receive_timeout></default></profiles>\n\
         <quotas><default></default></quotas>\n\
         <users>\n{default}{ours}</users>\n\
         </clickhouse>\n"
    )
}

/// A quarter of this machine's memory, within limits.
pub(super) fn memory_bytes() -> u64 {
    // SAFETY: plain system calls without pointers.
    let (pages, page) = unsafe {
        (
            libc::sysconf(libc::_SC_PHYS_PAGES),
            libc::sysconf(libc::_SC_PAGESIZE),
        )
    };
    let total = u64::try_from(pages).unwrap_or(0) * u64::try_from(page).unwrap_or(0);
    (total / 4).clamp(MEMORY_MIN, MEMORY_MAX)
}

/// Text for an XML element.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_cannot_break_the_file() {
        let settings = Settings {
            users: Path::new("/x/<users>&"),
            data: Path::new("/y"),
            port: 1234,
            key: "k",
            memory_bytes: 1,
            server: true,
        };
        let xml = settings.xml();
        assert!(
            xml.contains("<users_config>/x/&lt;users&gt;&amp;</users_config>"),
            "{xml}"
        );
        for tag in LIMITS.map(|(name, _)| name) {
            assert_eq!(xml.matches(tag).count(), 2, "{tag}");
        }
    }

    #[test]
    fn the_users_file_holds_a_hash_instead_of_the_password() {
        let users = users("abc");
        assert!(!users.contains("abc<"));
        // The SHA-256 example of FIPS 180-2, appendix B.1.
        assert!(users.contains("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"));
    }

    #[test]
    fn memory_stays_within_its_limits() {
        assert!((MEMORY_MIN..=MEMORY_MAX).contains(&memory_bytes()));
    }

    #[test]
    fn secrets_are_long_and_differ() {
        let draw = || Secrets::draw().expect("the kernel has randomness");
        let (one, two) = (draw(), draw());
        assert_eq!(one.password.len(), 2 * SECRET_BYTES);
        assert!(one.password != two.password && one.key != two.key && one.key != one.password);
    }
}
