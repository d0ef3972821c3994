//! `pinger export`: what it understands.

use std::path::{Path, PathBuf};

use clap::Args;

use super::StoreArgs;
use crate::config::{Moment, StoreOptions, moment};
use crate::mistake::{Mistake, nearest};
use crate::store::export::{ExportFormat, ExportOptions, ExportTable, Output};

pub(super) const AFTER: &str = "\
Examples:
  pinger export --from 2h -o last.parquet            the results of two hours
  pinger export --from \"2026-11-21 10:00\" --until \"2026-11-21 11:00\" > hour.csv
  pinger export --table per_minute --from 30d -o month.csv

Round trips and other times of results are whole nanoseconds (rtt_ns, lag_ns);
other tables have the columns of the views of that name.
Results come hour by hour, and in each hour destination by destination.
The file appears when all is in it; if something fails there is none.
Works while `pinger run` is running and when it is not.";

/// `pinger export …`
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Only what is of this moment or later: a date and time (UTC, or with an offset), or how long
    /// ago, such as 2h [default: all that there is]
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    pub from: Option<Moment>,
    /// Only what is before this moment [default: now]
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    pub until: Option<Moment>,
    /// What to export: results, per_minute, per_hour, outages (as far back as results are kept),
    /// gaps or runs [default: results]
    #[arg(long, value_name = "TABLE", value_parser = table)]
    pub table: Option<ExportTable>,
    /// parquet or csv [default: as the file's name ends; csv to standard output]
    #[arg(long, value_name = "FORMAT", value_parser = format)]
    pub format: Option<ExportFormat>,
    /// The file, which is replaced; - is standard output [default: -]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Where the store is.
    #[command(flatten)]
    pub store: StoreArgs,
}

impl ExportArgs {
    /// What the arguments ask for, at `now_ns` on the wall clock. `terminal` tells whether standard
    /// output is one.
    ///
    /// # Errors
    ///
    /// A range without any time in it; a format that is not said, or that no terminal shows.
    pub fn options(
        &self,
        store: StoreOptions,
        now_ns: i64,
        terminal: bool,
    ) -> Result<ExportOptions, Mistake> {
        let from_ns = self.from.map(|from| from.ns(now_ns));
        let until_ns = self.until.map_or(now_ns, |until| until.ns(now_ns));
        if from_ns.is_some_and(|from_ns| from_ns >= until_ns) {
            return Err(Mistake::new(
                "there is no time between --from and --until",
                "--from must be before --until, which is now unless given.",
            ));
        }
        let output = match &self.output {
            Some(path) if path.as_os_str() != "-" => Output::File(path.clone()),
            _ => Output::Stdout,
        };
        let format = match (self.format, &output) {
            (Some(format), _) => format,
            (None, Output::Stdout) => ExportFormat::Csv,
            (None, Output::File(path)) => of_name(path)?,
        };
        if (format, &output, terminal) == (ExportFormat::Parquet, &Output::Stdout, true) {
            return Err(Mistake::new(
                "--format parquet: a terminal cannot show it",
                "Name a file: --output results.parquet",
            ));
        }
        Ok(ExportOptions {
            store,
            table: self.table.unwrap_or(ExportTable::Results),
            from_ns,
            until_ns,
            format,
            output,
        })
    }
}

fn of_name(path: &Path) -> Result<ExportFormat, Mistake> {
    let ending = path.extension().unwrap_or_default().to_string_lossy();
    ExportFormat::of_word(&ending.to_lowercase()).ok_or_else(|| {
        Mistake::new(
            format!(
                "{} does not tell by its name what it is to hold",
                path.display()
            ),
            "Let it end in .parquet or .csv, or say --format parquet or --format csv.",
        )
    })
}

fn format(text: &str) -> Result<ExportFormat, Mistake> {
    let words = ExportFormat::ALL.map(ExportFormat::word);
    ExportFormat::of_word(text).ok_or_else(|| choice(text, &words))
}

fn table(text: &str) -> Result<ExportTable, Mistake> {
    let words = ExportTable::ALL.map(ExportTable::word);
    let found = ExportTable::ALL
        .into_iter()
        .find(|table| table.word() == text);
    found.ok_or_else(|| choice(text, &words))
}

fn choice(found: &str, allowed: &[&str]) -> Mistake {
    let meant = nearest(found, allowed).map(|word| format!("Did you mean {word}? "));
    Mistake::new(
        format!("{found:?} is not a choice here"),
        format!(
            "{}Allowed: {}.",
            meant.unwrap_or_default(),
            allowed.join(", ")
        ),
    )
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};
    use crate::config;

    const NOW: i64 = 1_800_000_000_000_000_000;
    const HOUR: i64 = 3_600_000_000_000;

    fn options(words: &str, terminal: bool) -> Result<ExportOptions, String> {
        let line = ["pinger", "export"]
            .into_iter()
            .chain(words.split_whitespace());
        let cli = Cli::try_parse_from(line).map_err(|error| error.to_string())?;
        let Command::Export(args) = cli.command else {
            panic!("{words} is no export");
        };
        let store = config::store_options(&[&args.store.settings()]);
        args.options(store, NOW, terminal)
            .map_err(|mistake| mistake.to_string())
    }

    #[test]
    fn what_is_not_said_has_its_default() {
        let found = options("", true).unwrap();
        assert_eq!((found.from_ns, found.until_ns), (None, NOW));
        assert_eq!(found.table, ExportTable::Results);
        assert_eq!(
            (found.format, found.output),
            (ExportFormat::Csv, Output::Stdout)
        );
    }

    #[test]
    fn what_is_said_arrives() {
        let words = "--from 2h --until 1h --table per_minute -o /x/a.Parquet --data-dir /d";
        let found = options(words, true).unwrap();
        assert_eq!(
            (found.from_ns, found.until_ns),
            (Some(NOW - 2 * HOUR), NOW - HOUR)
        );
        assert_eq!(found.table, ExportTable::PerMinute);
        assert_eq!(found.format, ExportFormat::Parquet);
        assert_eq!(found.output, Output::File("/x/a.Parquet".into()));
        assert_eq!(found.store.data_dir, PathBuf::from("/d"));
        let piped = options("--format parquet -o -", false).unwrap();
        assert_eq!(
            (piped.format, piped.output),
            (ExportFormat::Parquet, Output::Stdout)
        );
        let named = options("--format csv -o a.txt", false).unwrap();
        assert_eq!(named.format, ExportFormat::Csv);
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_what_does() {
        for (words, part) in [
            ("--from 1h --until 2h", "--from must be before"),
            ("--from 2300-01-01", "is not a moment"),
            ("--from 2200-01-01", "which is now unless given"),
            ("-o results.txt", "--format parquet or --format csv"),
            ("-o results", "does not tell by its name"),
            ("--format parquet", "--output results.parquet"),
            ("--format xml", "Allowed: parquet, csv"),
            ("--table per_minut", "Did you mean per_minute?"),
        ] {
            let told = options(words, true).unwrap_err();
            assert!(told.contains(part), "{words}: {told}");
        }
    }
}
