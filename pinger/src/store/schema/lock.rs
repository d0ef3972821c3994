//! A mutex in the database, so that two hosts never migrate it at once.
//!
//! The lock is a table, as ClickHouse lets only one client create a table of a name. Its comment
//! says who holds it and when that one was last seen, by the server's clock. Whoever was not seen
//! for a while is taken to be dead. Never waits for the lock of a dead one, and never takes that
//! of a living one.

use std::process;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::sleep;

use super::{Say, SchemaError, hex};
use crate::store::StoreError;
use crate::store::clickhouse::Connection;

/// The table that is the lock.
const TABLE: &str = "schema_lock";

/// How often the holder says that it lives: six times within [`STALE_S`], so that a few that are
/// late do no harm.
pub(super) const BEAT: Duration = Duration::from_secs(10);

/// A holder unseen for so long is dead: seconds.
const STALE_S: i64 = 60;

/// How often those who wait look again.
const POLL: Duration = Duration::from_millis(500);

/// How the ids of statements begin that are run under the lock.
pub(super) const MIGRATION: &str = "pinger-migration-";

/// Of `TABLE_ALREADY_EXISTS` and `UNKNOWN_TABLE`, ClickHouse's numbers.
const EXISTS: u32 = 57;
const UNKNOWN: u32 = 60;

/// Between the holder and the time in the comment.
const SEEN: &str = "; seen ";

/// The lock, held. Whoever drops it without [`Lock::release_after`] leaves it to its age.
pub(super) struct Lock<'a> {
    connection: &'a Connection,
    owner: String,
    /// Left over from a dead holder, if we took over from one.
    remains: Option<String>,
}

/// Who holds the lock, as the database tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    /// Program, host and process, and since when.
    pub(super) owner: String,
    /// For how long it was not seen, seconds.
    pub(super) silent_s: i64,
}

impl Holder {
    /// Whether nobody needs to wait for it.
    pub(super) fn is_dead(&self) -> bool {
        self.silent_s > STALE_S
    }
}

impl<'a> Lock<'a> {
    /// Takes the lock. Waits as long as another holder gives signs of life, and says so once.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses.
    pub(super) async fn take(
        connection: &'a Connection,
        say: &mut Say<'_>,
    ) -> Result<Self, StoreError> {
        let since: String = connection
            .fetch_one("SELECT toString(now64(6, 'UTC'))")
            .await?;
        let owner = format!(
            "pinger {} on {}, process {}, since {since} UTC",
            env!("CARGO_PKG_VERSION"),
            host(),
            process::id()
        );
        let mut told: Option<String> = None;
        let mut remains = None;
        loop {
            match connection.execute(&create(&owner, &since)).await {
                Ok(()) => {
                    let lock = Self {
                        connection,
                        owner,
                        remains,
                    };
                    lock.end_leftovers(say).await?;
                    return Ok(lock);
                }
                Err(StoreError::Server { code: EXISTS, .. }) => {}
                Err(error) => return Err(error),
            }
            let Some(holder) = holder(connection).await? else {
                // Released in between, or being created.
                sleep(POLL / 10).await;
                continue;
            };
            if holder.is_dead() {
                if let Some(table) = take_over(connection, &holder).await? {
                    say(&format!(
                        "took over the lock of {}, which gave no sign of life for {} s",
                        holder.owner, holder.silent_s
                    ));
                    remains = Some(table);
                }
                continue;
            }
            if told.as_ref() != Some(&holder.owner) {
                say(&format!(
                    "waiting for {}, which is changing this schema",
                    holder.owner
                ));
                told = Some(holder.owner);
            }
            sleep(POLL).await;
        }
    }

    /// Ends what runs on for a holder that is gone: a server finishes a statement though nobody
    /// waits for its end, and rows that come in then would be there twice.
    async fn end_leftovers(&self, say: &mut Say<'_>) -> Result<(), StoreError> {
        let theirs =
            format!("query_id LIKE '{MIGRATION}%' AND current_database = currentDatabase()");
        let mut told = false;
        loop {
            // Refused if they are another user's; then they are waited for.
            let kill = format!("KILL QUERY WHERE {theirs} SYNC FORMAT Null");
            let _ = self.connection.execute(&kill).await;
            let count = format!("SELECT count() FROM system.processes WHERE {theirs}");
            // Who may not see them cannot wait for them either.
            let left: u64 = self.connection.fetch_one(&count).await.unwrap_or(0);
            if left == 0 {
                return Ok(());
            }
            if !told {
                say("waiting for a statement that an earlier pinger left behind on the server");
                told = true;
            }
            self.beat().await?;
            sleep(POLL).await;
        }
    }

    /// Tells the others that we live.
    ///
    /// # Errors
    /// When another has taken the lock, as we were silent for too long. That the server cannot
    /// be reached for a moment is none: the work itself will tell.
    pub(super) async fn beat(&self) -> Result<(), StoreError> {
        let Ok(found) = holder(self.connection).await else {
            return Ok(());
        };
        if found.as_ref().map(|found| &found.owner) != Some(&self.owner) {
            let by = found.map_or_else(|| "nobody".to_owned(), |found| found.owner);
            return Err(self.connection.schema(SchemaError::LockLost { by }));
        }
        let now = "SELECT toString(now64(6, 'UTC'))";
        if let Ok(now) = self.connection.fetch_one::<String>(now).await {
            let comment = quoted(&format!("{}{SEEN}{now}", self.owner));
            let sql = format!("ALTER TABLE {TABLE} MODIFY COMMENT {comment}");
            // As above.
            let _ = self.connection.execute(&sql).await;
        }
        Ok(())
    }

    /// Gives the lock back after work that ended so. The first error is the one that matters.
    ///
    /// # Errors
    /// That of the work; or another has taken the lock, or the server cannot be reached.
    pub(super) async fn release_after<T>(
        self,
        done: Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let released = self.release().await;
        let done = done?;
        released.map(|()| done)
    }

    async fn release(self) -> Result<(), StoreError> {
        self.beat().await?;
        let drop = |table: &str| format!("DROP TABLE IF EXISTS {table} SYNC");
        if let Some(table) = &self.remains {
            self.connection.execute(&drop(table)).await?;
        }
        self.connection.execute(&drop(TABLE)).await
    }
}

/// Who holds the lock now.
///
/// # Errors
/// When the server cannot be reached or refuses.
pub(super) async fn holder(connection: &Connection) -> Result<Option<Holder>, StoreError> {
    let sql = format!(
        "SELECT comment, toInt64(dateDiff('second', \
            parseDateTime64BestEffortOrZero(splitByString('{SEEN}', comment)[-1], 6, 'UTC'), \
            now64(6, 'UTC'))) \
         FROM system.tables WHERE database = currentDatabase() AND name = '{TABLE}'"
    );
    let found: Vec<(String, i64)> = connection.fetch_all(&sql).await?;
    Ok(found.into_iter().next().map(|(comment, silent_s)| Holder {
        owner: comment
            .rsplit_once(SEEN)
            .map_or_else(|| "somebody".to_owned(), |(owner, _)| owner.to_owned()),
        silent_s,
    }))
}

/// Puts a dead one's lock aside; the name of the table that is left, or `None` if another was
/// faster.
///
/// The name is made of the holder's, so only one of those who saw that one dead can succeed.
async fn take_over(connection: &Connection, dead: &Holder) -> Result<Option<String>, StoreError> {
    let aside = aside(&dead.owner);
    let sql = format!("RENAME TABLE {TABLE} TO {aside}");
    match connection.execute(&sql).await {
        Ok(()) => Ok(Some(aside)),
        Err(StoreError::Server {
            code: EXISTS | UNKNOWN,
            ..
        }) => {
            sleep(POLL / 10).await;
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Where the lock of a dead holder goes.
fn aside(owner: &str) -> String {
    format!("{TABLE}_of_{}", &hex(&Sha256::digest(owner))[..16])
}

fn create(owner: &str, now: &str) -> String {
    format!(
        "CREATE TABLE {TABLE} (unused UInt8) ENGINE = Null COMMENT {}",
        quoted(&format!("{owner}{SEEN}{now}"))
    )
}

/// Text as a literal of SQL.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// The name of this host.
fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "a host without a name".to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_of_a_host_breaks_the_statement() {
        assert_eq!(quoted(r"o'k\n"), r"'o\'k\\n'");
        assert_eq!(
            create("me", "2026-11-21 10:00:00.5"),
            "CREATE TABLE schema_lock (unused UInt8) ENGINE = Null \
             COMMENT 'me; seen 2026-11-21 10:00:00.5'"
        );
    }

    #[test]
    fn the_silent_are_dead_and_have_places_of_their_own() {
        let holder = |silent_s| Holder {
            owner: "x".to_owned(),
            silent_s,
        };
        assert!(!holder(STALE_S).is_dead() && holder(STALE_S + 1).is_dead());
        // A clock that was set back makes nobody dead.
        assert!(!holder(-5).is_dead());
        assert_ne!(aside("one"), aside("two"));
        assert_eq!(aside("one"), aside("one"));
    }
}
