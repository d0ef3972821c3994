//! `pinger spool …`: what it understands.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::StoreArgs;
use super::style::{Style, style};

pub(super) const AFTER: &str = "\
Results wait on disk until the store has them. What the store calls wrong is
kept aside with its words and told as a gap; the rest goes on:
  pinger spool status                          what waits, what was refused
  pinger spool status --format json            the same for scripts
  pinger spool retry                           send what was refused once more
  pinger spool retry --store http://me@db:8123/net    into a server of yours

Both work while `pinger run` is running and when it is not. A retry sends the
same rows under the same token, and its gap then says that nothing is missing;
for that, the user of a server needs the role pinger_owner (docs/store.md).

Exit codes: 0 nothing is refused, or all of it was sent; 1 failed; 2 the
command line is wrong; 3 something is refused, and still there.";

/// `pinger spool …`
#[derive(Debug, Subcommand)]
pub enum SpoolAction {
    /// Tell what waits for the store, and what it refused; changes nothing
    Status(SpoolStatusArgs),
    /// Send what the store refused once more, when the cause is mended
    Retry(StoreArgs),
}

/// `pinger spool status …`
#[derive(Debug, Args)]
pub struct SpoolStatusArgs {
    /// table: for people; json: one object, for scripts [default: table]
    #[arg(long, value_name = "FORMAT", value_parser = style)]
    pub format: Option<Style>,
    /// Settings from a TOML file; the command line beats it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where results wait [default: /var/lib/pinger]
    #[arg(
        long,
        value_name = "DIR",
        env = "PINGER_DATA_DIR",
        hide_env_values = true
    )]
    pub data_dir: Option<PathBuf>,
}

impl SpoolStatusArgs {
    /// The same as arguments about a store, of which it needs no more.
    pub fn store(&self) -> StoreArgs {
        StoreArgs {
            config: self.config.clone(),
            data_dir: self.data_dir.clone(),
            ..StoreArgs::default()
        }
    }
}
