//! A segment that was refused, as inserts that bring it into the store after all.
//!
//! In: the bytes of its file. Out: the rows, the tokens to send them under, and what tells whether
//! they are there. Knows nothing of disks and servers.

use super::doubt::question;
use super::segment::{Contents, Table, Totals, tail};
use super::send::GENERATIONS_MAX;
use super::terms::{Identity, Question};

/// What is to be sent once more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Again {
    /// Which table it is for.
    pub table: Table,
    /// Rows of its table, and of results how many probes they end.
    pub size: Totals,
    /// When its first and its last row came, wall clock nanoseconds: as the gap has it that tells
    /// of it.
    pub range_ns: (i64, i64),
    /// Blocks in ClickHouse's compressed Native format.
    pub body: Vec<u8>,
    /// What tells whether the server has them; `None` where rows may come twice.
    pub question: Option<Question>,
    identity: Identity,
    number: u64,
}

impl Again {
    /// Reads segment `number` of a run; `None` if nothing of it can be sent any more, or if it is
    /// another run's.
    pub fn of(identity: &Identity, number: u64, bytes: &[u8]) -> Option<Self> {
        let contents = Contents::of(bytes);
        let header = contents.header.as_ref()?;
        let is_his = (header.source, header.run) == (identity.source, identity.run);
        (is_his && header.number == number && !contents.blocks.is_empty()).then_some(())?;
        let end = tail(bytes).map(|end| (end.from_ns, end.until_ns));
        let blocks = contents.blocks.iter().map(|block| &bytes[block.clone()]);
        let question = match header.table.is_replacing() {
            true => None,
            false => question(identity, header.table, &contents.markers),
        };
        Some(Self {
            table: header.table,
            size: contents.size,
            range_ns: end.or(contents.range_ns)?,
            body: blocks.flatten().copied().collect(),
            question,
            identity: identity.clone(),
            number,
        })
    }

    /// The tokens to send it under, one after the other: the next one where the server takes the
    /// rows and does not have them, for then it remembers the token of an insert that never
    /// landed.
    pub fn tokens(&self) -> impl Iterator<Item = String> {
        (1..=GENERATIONS_MAX).map(|generation| self.identity.token(self.number, generation))
    }
}
