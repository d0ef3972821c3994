//! `pinger schema …`: what it understands.

use clap::{Args, Subcommand};

use super::StoreArgs;
use crate::mistake::Mistake;
use crate::store::schema::{Retention, Script, VERSION};

pub(super) const AFTER: &str = "\
The embedded store gets its tables by itself. A server of your own needs them
once, and again after an upgrade of pinger; hosts that do this together wait
for one another:
  pinger schema apply --store http://me@db:8123/net
  pinger schema status --store http://me@db:8123/net
  pinger schema retention --raw 14d --minute 1y --hour 10y
  pinger schema print > pinger.sql              to read them first
  pinger schema print --cluster two --database net | clickhouse-client

Exit codes: 0 done, 1 failed, 2 the command line is wrong; of status also 3:
the schema is not the one that this pinger needs.";

/// `pinger schema …`
#[derive(Debug, Subcommand)]
pub enum SchemaAction {
    /// Create or upgrade tables and views; running it again changes nothing
    Apply(StoreArgs),
    /// Tell which version is there, whether it fits, and what the tables hold; changes nothing
    Status(StoreArgs),
    /// Show for how long rows are kept, or change it
    Retention(RetentionArgs),
    /// Print all SQL to standard output, in the order in which it is applied
    Print(PrintArgs),
}

/// `pinger schema retention …`
#[derive(Debug, Args)]
pub struct RetentionArgs {
    /// Keep raw results for this long: days, weeks or years of 365 days, such as 14d, 2w or 1y; 1d
    /// to 50y
    #[arg(long, value_name = "TIME", value_parser = days)]
    pub raw: Option<u32>,
    /// Keep results by the minute for this long
    #[arg(long, value_name = "TIME", value_parser = days)]
    pub minute: Option<u32>,
    /// Keep results by the hour for this long
    #[arg(long, value_name = "TIME", value_parser = days)]
    pub hour: Option<u32>,
    /// Where the store is.
    #[command(flatten)]
    pub store: StoreArgs,
}

impl RetentionArgs {
    /// What is to be changed.
    pub fn change(&self) -> Retention {
        Retention {
            raw: self.raw,
            minute: self.minute,
            hour: self.hour,
        }
    }
}

/// `pinger schema print …`
#[derive(Debug, Args)]
pub struct PrintArgs {
    /// For all servers of this cluster, named as in their remote_servers: rows in replicated
    /// tables of a database of its own on each shard, and tables over all shards
    #[arg(long, value_name = "NAME", value_parser = cluster)]
    pub cluster: Option<String>,
    /// Database of the cluster that pinger writes to; the shards' own is NAME_shard [default:
    /// pinger]
    #[arg(long, value_name = "NAME", value_parser = database, requires = "cluster")]
    pub database: Option<String>,
    /// Only what leads on from this version of the schema
    #[arg(
        long,
        value_name = "VERSION",
        default_value_t = 0,
        hide_default_value = true,
        value_parser = version
    )]
    pub from: u32,
}

impl PrintArgs {
    /// What is to be printed.
    pub fn script(&self) -> Script {
        Script {
            cluster: self.cluster.clone(),
            database: self.database.clone(),
            from: self.from,
        }
    }
}

/// The longest time that rows are kept for, in days: ClickHouse adds it to seconds in 32 bits,
/// which end in 2106, and rows that come then must not look old.
const DAYS_MAX: u32 = 50 * DAYS_A_YEAR;

/// Leap years are not counted.
const DAYS_A_YEAR: u32 = 365;

/// A time to keep rows for, in days.
fn days(text: &str) -> Result<u32, Mistake> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit_days = match unit {
        "d" => Some(1),
        "w" => Some(7),
        "y" => Some(DAYS_A_YEAR),
        _ => None,
    };
    let found = number
        .parse::<u32>()
        .ok()
        .zip(unit_days)
        .and_then(|(number, unit_days)| number.checked_mul(unit_days));
    match found {
        Some(days) if (1..=DAYS_MAX).contains(&days) => Ok(days),
        _ => Err(Mistake::new(
            format!("{text:?} is not a time to keep rows for"),
            "Write a whole number and d, w or y, from 1d to 50y: days, weeks, years of 365 days.",
        )),
    }
}

/// A version of the schema that something leads on from.
fn version(text: &str) -> Result<u32, Mistake> {
    match text.parse() {
        Ok(version) if version < VERSION => Ok(version),
        _ => Err(Mistake::new(
            format!("nothing leads on from {text:?}"),
            format!(
                "The schema of this pinger has version {VERSION}. `pinger schema status` tells \
                 which one is there: write that if it is lower; if not, there is nothing to do."
            ),
        )),
    }
}

/// A database that we may write into SQL as it is.
fn database(text: &str) -> Result<String, Mistake> {
    name(text, "a database")
}

/// A cluster's name, the same.
fn cluster(text: &str) -> Result<String, Mistake> {
    name(text, "a cluster")
}

fn name(text: &str, of: &str) -> Result<String, Mistake> {
    let is_fit = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if !text.is_empty() && text.bytes().all(is_fit) {
        return Ok(text.to_owned());
    }
    Err(Mistake::new(
        format!("{text:?} is not the name of {of}"),
        "A name has letters, digits and _ only.",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_to_keep_are_whole_days() {
        for (text, expected) in [
            ("1d", Some(1)),
            ("2w", Some(14)),
            ("50y", Some(18_250)),
            ("51y", None),
            ("0d", None),
            ("7", None),
            ("d", None),
            ("1.5d", None),
            ("1h", None),
            ("99999999999d", None),
            ("4000000000w", None),
        ] {
            assert_eq!(days(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn only_what_leads_on_is_printed() {
        assert_eq!(version("0"), Ok(0));
        assert_eq!(version(&(VERSION - 1).to_string()), Ok(VERSION - 1));
        for text in [&VERSION.to_string(), "99", "-1", "one"] {
            assert!(version(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_go_into_statements_as_they_are() {
        assert_eq!(cluster("two_2").as_deref(), Ok("two_2"));
        for text in ["", "a'b", "a b", "a.b"] {
            assert!(database(text).is_err(), "{text}");
        }
    }
}
