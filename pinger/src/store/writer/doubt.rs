//! What a server has of a segment whose insert ended in doubt.
//!
//! In: a job that was tried before, with the question that the spool has about it. Out: whether its
//! rows have landed. When to ask, and what, says [`crate::spool`].

use std::time::Duration;

use super::super::clickhouse::Connection;
use super::super::timeouts::in_time;
use super::super::{StoreError, wall_ns};
use super::sending::one_line;
use crate::spool::{DOUBT_FRESH_NS, End, Job, Question};

/// The server's number for a missing right.
pub(in crate::store) const ACCESS_DENIED: u32 = 497;

/// Seconds that clocks of two hosts may differ.
const CLOCKS_APART: u64 = 60;

/// For so long no server forgets a token because of what others insert.
pub(in crate::store) const TOKEN_KNOWN: Duration =
    Duration::from_nanos(DOUBT_FRESH_NS.unsigned_abs());

/// How much of a segment a server has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Landed {
    /// A row of each day.
    All,
    /// Rows of some days only: each day is a part of its own, and a crash may have taken one.
    Part,
    /// No row that it was asked for.
    None,
    /// We may not ask: then the token alone must do.
    Unknown,
}

/// A question to the server.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Doubt {
    question: Question,
    /// The longest that its answer may take.
    limit: Duration,
    /// When the last row of the segment came, wall clock nanoseconds.
    until_ns: i64,
}

impl Doubt {
    /// The question about a job that was tried before; `None` of one that needs none.
    pub(super) fn of(job: &Job, limit: Duration) -> Option<Self> {
        job.question.as_ref().map(|question| Self {
            question: question.clone(),
            limit,
            until_ns: job.until_ns,
        })
    }

    /// Whether all is there, so that nothing is to be sent again.
    ///
    /// A server that was killed in the middle of an insert may have the rows in some tables only.
    /// While it is back for so short that it knows the token, the others get them by that.
    ///
    /// # Errors
    /// When there is no answer: why, in words.
    pub(super) async fn is_settled(&self, connection: &Connection) -> Result<bool, String> {
        let (landed, uptime_s) = self.fetch(connection).await?;
        Ok(landed == Landed::All && uptime_s >= TOKEN_KNOWN.as_secs())
    }

    /// Asks again after an insert that was acknowledged.
    pub(super) async fn confirm(&self, connection: &Connection) -> End {
        match self.fetch(connection).await {
            // A server that ran all the time keeps what it takes: others of a cluster may not
            // have it yet, or it was deleted since.
            Ok((Landed::None, uptime_s)) if was_down(self.until_ns, uptime_s) => End::Missing,
            Ok(_) => End::Written,
            Err(words) => End::Doubtful(words),
        }
    }

    async fn fetch(&self, connection: &Connection) -> Result<(Landed, u64), String> {
        let answer = connection.fetch_one::<(u64, u64)>(&self.question.sql);
        match in_time(self.limit, answer).await? {
            Ok((0, uptime_s)) => Ok((Landed::None, uptime_s)),
            Ok((days, uptime_s)) if days < self.question.days => Ok((Landed::Part, uptime_s)),
            Ok((_, uptime_s)) => Ok((Landed::All, uptime_s)),
            Err(error) if is_forbidden(&error) => Ok((Landed::Unknown, u64::MAX)),
            Err(error) => Err(one_line(&error)),
        }
    }
}

/// Whether a server that has run so long was started anew since the first insert of a segment may
/// have been tried, whose last row came at `until_ns`.
pub(in crate::store) fn was_down(until_ns: i64, uptime_s: u64) -> bool {
    let age_ns = wall_ns().saturating_sub(until_ns);
    uptime_s < u64::try_from(age_ns / 1_000_000_000).unwrap_or(0) + CLOCKS_APART
}

/// A right that an older version of `schema/users.sql` did not grant.
fn is_forbidden(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::Server {
            code: ACCESS_DENIED,
            ..
        }
    )
}
