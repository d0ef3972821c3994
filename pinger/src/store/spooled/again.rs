//! `pinger spool retry`: brings into the store what it refused, when the cause is mended.
//!
//! In: the refused segments of a data directory. Out: their rows in the store, under the token that
//! they always had; gaps that say so; and the files are gone. In this order, each step once however
//! often it is done, so that a retry that is cut short can be done again: until it is done, results
//! are told as missing that are there, and never the other way round.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;

use super::super::clickhouse::verdict::Verdict;
use super::super::clickhouse::{Address, Connection};
use super::super::disk::Folder;
use super::super::disk::visit::Visited;
use super::super::schema::{self, Shards};
use super::super::session::{EMBEDDED, Session, Sharing};
use super::super::timeouts::Timeouts;
use super::super::writer::doubt::{ACCESS_DENIED, TOKEN_KNOWN, was_down};
use super::super::{StoreError, tables};
use super::{other, unreadable, visit_all};
use crate::config::{StoreChoice, StoreOptions};
use crate::mistake::grouped;
use crate::spool::again::Again;
use crate::spool::look::{Refused, look};
use crate::spool::{Disk, DiskError, Identity, Question, Table};

/// The embedded engine knows a token for longer than a server with other writers: its window of
/// 10,000 holds two a second for an hour and more.
const KNOWN_EMBEDDED: Duration = Duration::from_secs(1800);

/// What the detail of a gap begins with whose results were sent after all.
const SENT_AGAIN: &str = "sent again: ";

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retried {
    /// Segments that the store has now.
    pub sent: u64,
    /// Those that it has not, with the reason.
    pub kept: Vec<(PathBuf, String)>,
}

/// What keeps a segment from being sent.
enum Trouble {
    /// This one alone.
    Kept(String),
    /// All of them.
    Store(StoreError),
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<DiskError> for Trouble {
    fn from(error: DiskError) -> Self {
        Self::Kept(error.words)
    }
}

/// Sends all that the store refused, telling `say` of each segment.
///
/// # Errors
/// When the data directory cannot be read, or the store cannot be used. What is done by then stays
/// done.
pub fn retry(options: &StoreOptions, say: &mut dyn FnMut(&str)) -> Result<Retried, StoreError> {
    let name = name(options)?;
    let mut retried = Retried::default();
    let mut work = Vec::new();
    for (visited, folder, found) in visit_all(&options.data_dir)? {
        let store = found.store.unwrap_or_default();
        if store != name {
            let words = match store.as_str() {
                "" => "its folder does not tell any more for which store it is".to_owned(),
                _ => format!("it is for another store, {store}: name that by --store"),
            };
            for refused in &found.refused {
                retried.keep(&visited, refused, &words);
            }
        } else if !found.refused.is_empty() {
            work.push((visited, folder));
        }
    }
    if work.is_empty() {
        return Ok(retried);
    }
    let session = Session::open(options, Sharing::Guest)?;
    let target = Target::of(&session, name)?;
    for (visited, mut folder) in work {
        let sending = target.send_all(&visited, &mut folder, say, &mut retried);
        session.block_on(sending)?;
    }
    Ok(retried)
}

/// Which store it is, as it stands in the folders.
fn name(options: &StoreOptions) -> Result<String, StoreError> {
    match &options.choice {
        StoreChoice::None => Err(StoreError::NoStore),
        StoreChoice::Embedded => Ok(EMBEDDED.to_owned()),
        StoreChoice::Url(url) => {
            let password = options.password_file.as_deref();
            Ok(Connection::to_server(Address::from_url(url, password)?)?.place())
        }
    }
}

impl Retried {
    fn keep(&mut self, visited: &Visited, refused: &Refused, words: &str) {
        let file = visited.path.join(refused.file());
        self.kept.push((file, words.to_owned()));
    }
}

/// The store that is to have them.
struct Target<'a> {
    connection: &'a Connection,
    /// As it stands in the folders.
    name: String,
    /// The table of gaps, as a statement that changes rows names it.
    gaps: String,
}

impl<'a> Target<'a> {
    /// Makes sure that the store is one, and lets us do all that must be done.
    fn of(session: &'a Session, name: String) -> Result<Self, StoreError> {
        let connection = session.connection();
        session.block_on(async {
            schema::check(connection).await?;
            let gaps = match schema::shards(connection).await? {
                Some(Shards { cluster, database }) => {
                    format!("{database}.gaps ON CLUSTER '{cluster}'")
                }
                None => "gaps".to_owned(),
            };
            let target = Self {
                connection,
                name,
                gaps,
            };
            // No row is changed, but all that is checked before is.
            target.settle("0").await.map_err(not_owner)?;
            Ok(target)
        })
    }

    /// Brings a run's refused segments into the store.
    async fn send_all(
        &self,
        visited: &Visited,
        folder: &mut Folder,
        say: &mut dyn FnMut(&str),
        retried: &mut Retried,
    ) -> Result<(), StoreError> {
        let taken = visited.take_refused().map_err(unreadable(&visited.path))?;
        // Looked at again: until now, somebody else may have sent some.
        let found = look(folder).map_err(|error| unreadable(&visited.path)(other(error)))?;
        let mut refused = found.refused;
        // Gaps first: one of them may tell of another segment here.
        refused.sort_by_key(|is| (is.table != Some(Table::Gaps), is.number));
        for refused in refused {
            if taken.is_none() {
                retried.keep(visited, &refused, "somebody else sends it just now");
                continue;
            }
            match self.send(visited, folder, &refused).await {
                Ok(words) => {
                    retried.sent += 1;
                    say(&words);
                }
                Err(Trouble::Kept(words)) => retried.keep(visited, &refused, &words),
                Err(Trouble::Store(error)) => return Err(error),
            }
        }
        Ok(())
    }

    /// Brings one segment into the store; what was done, in words.
    async fn send(
        &self,
        visited: &Visited,
        folder: &mut Folder,
        refused: &Refused,
    ) -> Result<String, Trouble> {
        let identity = Identity {
            source: visited.key.source,
            run: visited.key.run,
            store: self.name.clone(),
        };
        let bytes = folder.read(&refused.file(), 0, refused.bytes)?;
        let Some(again) = Again::of(&identity, refused.number, &bytes) else {
            let words = "its file is damaged, and nothing of it can be sent";
            return Err(Trouble::Kept(words.to_owned()));
        };
        drop(bytes);
        let gap = (again.table == Table::Incoming).then(|| condition(&identity, &again));
        if let Some(gap) = &gap {
            self.find(gap).await?;
        }
        let rested = folder.touch(&refused.file())?;
        self.land(&again, rested).await?;
        if let Some(gap) = &gap {
            self.settle(gap).await?;
        }
        // The segment last: a file of words alone would keep the folder for ever.
        let _ = folder.remove(&refused.reason_file());
        folder.remove(&refused.file())?;
        let Identity { source, run, .. } = identity;
        let (rows, table) = (grouped(again.size.rows.into()), again.table.name());
        Ok(format!(
            "sent segment {} of run {run} of source {source}: {rows} rows into {table}",
            refused.number
        ))
    }

    /// Makes sure that the gap is there which tells of a segment, once.
    async fn find(&self, gap: &str) -> Result<(), Trouble> {
        let sql = format!("SELECT count() FROM gaps WHERE {gap}");
        match self.connection.fetch_one::<u64>(&sql).await? {
            1 => Ok(()),
            0 => Err(Trouble::Kept(
                "the table gaps does not tell of it yet: try again when `pinger spool status` \
                 shows no gaps that wait"
                    .to_owned(),
            )),
            count => Err(Trouble::Kept(format!(
                "the table gaps tells of it {count} times"
            ))),
        }
    }

    /// Has the rows in the store, once; the last try was `rested` ago.
    async fn land(&self, again: &Again, rested: Duration) -> Result<(), Trouble> {
        // An earlier retry may have come so far. If that was cut short by the end of the server,
        // some tables may lack the rows, and get them under the token as long as it is known.
        let known = match self.name.as_str() {
            EMBEDDED => KNOWN_EMBEDDED,
            _ => TOKEN_KNOWN,
        };
        if let Some(question) = &again.question
            && rested > known
            && self.ask(question).await?.0 >= question.days
        {
            return Ok(());
        }
        let body = Bytes::from(again.body.clone());
        let timeouts = Timeouts::default();
        for (generation, token) in again.tokens().enumerate() {
            let statement = tables::statement(again.table, generation > 0);
            let insert = self
                .connection
                .insert_blocks(&statement, &token, body.clone(), &timeouts);
            insert.await.map_err(|error| match Verdict::of(&error) {
                Verdict::Refused(words) => Trouble::Kept(words),
                Verdict::Retry(_) => Trouble::Store(self.connection.error(&error)),
            })?;
            let Some(question) = &again.question else {
                return Ok(());
            };
            let (days, uptime_s) = self.ask(question).await?;
            // A server that ran all the time keeps what it takes: others of a cluster may not have
            // it yet.
            if days > 0 || !was_down(again.range_ns.1, uptime_s) {
                return Ok(());
            }
        }
        let words = "the server takes the rows and does not have them: are they older than it \
                     keeps results?";
        Err(Trouble::Kept(words.to_owned()))
    }

    /// On how many days the server has rows of a segment, and how many seconds it has run.
    async fn ask(&self, question: &Question) -> Result<(u64, u64), StoreError> {
        self.connection.fetch_one(&question.sql).await
    }

    /// Has the gap say that nothing is missing any more.
    async fn settle(&self, gap: &str) -> Result<(), StoreError> {
        let sql = settlement(&self.gaps, gap);
        self.connection.execute(&sql).await
    }
}

/// The statement that has a gap say that nothing is missing; done twice it changes nothing.
fn settlement(gaps: &str, gap: &str) -> String {
    format!(
        "ALTER TABLE {gaps} UPDATE probes = 0, rows = 0, \
         detail = concat('{SENT_AGAIN}', detail) \
         WHERE {gap} AND NOT startsWith(detail, '{SENT_AGAIN}') SETTINGS mutations_sync = 2"
    )
}

/// Says which right is missing, if one is.
fn not_owner(error: StoreError) -> StoreError {
    match error {
        StoreError::Server {
            server,
            code: ACCESS_DENIED,
            message,
        } => StoreError::NotOwner { server, message },
        other => other,
    }
}

/// The gap that tells of a segment alone.
fn condition(identity: &Identity, again: &Again) -> String {
    let Identity { source, run, .. } = identity;
    let (from_ns, until_ns) = again.range_ns;
    format!(
        "source = {source} AND run = {run} AND reason = 'refused' \
         AND `from` = fromUnixTimestamp64Nano({from_ns}) \
         AND until = fromUnixTimestamp64Nano({until_ns})"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_settled_by_its_range_and_once() {
        assert_eq!(
            settlement("net_shard.gaps ON CLUSTER 'two'", "source = 3"),
            "ALTER TABLE net_shard.gaps ON CLUSTER 'two' UPDATE probes = 0, rows = 0, \
             detail = concat('sent again: ', detail) \
             WHERE source = 3 AND NOT startsWith(detail, 'sent again: ') \
             SETTINGS mutations_sync = 2"
        );
    }
}
