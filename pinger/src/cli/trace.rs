//! `pinger trace`: what it understands, and how that becomes a run.

use std::num::NonZeroU8;

use clap::Args;

use super::style::{Style, style};
use super::{ProbeArgs, SpoolArgs, StoreArgs, help};
use crate::config::value::{self, IN_FLIGHT_MAX, TTL};
use crate::config::{Format, RunOptions, Settings, StoreChoice, show_duration};
use crate::destination::{ProtocolName, Written};
use crate::flow::UDP_SEQUENCE_SIZE;
use crate::mistake::{Mistake, grouped};
use crate::schedule::PASS_SPREAD_NS;

/// Hops when none are said: as every traceroute since the first.
const HOPS_DEFAULT: NonZeroU8 = NonZeroU8::new(30).expect("30 is not 0");

/// The most hops of all destinations together: what the view keeps of each stays within a few
/// hundred megabytes.
const HOPS_MAX: u64 = 1 << 20;

pub(super) const AFTER: &str = "\
Examples:
  pinger trace 192.0.2.1 example.org          one pass, about one round trip
  pinger trace -c 60 --interval 500ms DEST    sixty passes, half a second apart
  pinger trace --format json -f hosts.txt     one JSON object a destination
  pinger trace --store embedded -c 60 DEST    keep the paths: see the views
                                              paths, path_changes and hops

A pass sends one probe for each hop, all within 50 ms, or 100,000 a second where
there are very many. What a balancer looks at stays the same in all of them, so
one path is shown, not a mix. ??? is a hop that does not answer: many routers do
not, and many answer only so often; loss that does not go on at the hops behind
it is no loss of traffic.
A path ends where the destination answers, or where a router knows no way.

Exit codes: 0 done, 1 failed, 2 command line wrong.";

/// `pinger trace …`
#[derive(Debug, Args)]
#[command(
    mut_arg("interval", |arg| arg.help("Time from one pass to the next, 10us to 1d [default: 1s]")),
    mut_arg("store", |arg| arg.help("none: keep nothing; embedded: a ClickHouse of pinger's own; \
        or the URL of a server, http://user@host:8123/database [default: none]")),
    // Both are refused with what to use instead.
    mut_arg("ttl", |arg| arg.hide(true)),
    mut_arg("config", |arg| arg.hide(true)),
)]
pub struct TraceArgs {
    /// What to probe and how.
    #[command(flatten)]
    pub probe: ProbeArgs,
    /// Look for so many hops at most, 1 to 255 [default: 30]
    #[arg(long, value_name = "N", value_parser = hops, help_heading = help::HOW)]
    pub hops: Option<NonZeroU8>,
    /// Stop after this many passes [default: 1]
    #[arg(short, long, value_name = "N", value_parser = value::count, help_heading = help::HOW)]
    pub count: Option<u64>,
    /// Where results go.
    #[command(flatten)]
    pub store: StoreArgs,
    /// How results wait for it.
    #[command(flatten)]
    pub spool: SpoolArgs,
    /// table: hops of each destination, drawn anew on a terminal; json: one object a destination
    /// at the end [default: table]
    #[arg(long, value_name = "FORMAT", value_parser = style, help_heading = help::SEE)]
    pub format: Option<Style>,
}

impl TraceArgs {
    /// What the arguments set.
    ///
    /// # Errors
    ///
    /// What makes no sense in a trace.
    pub fn settings(&self) -> Result<Settings, Mistake> {
        if self.probe.ttl.is_some() {
            return Err(Mistake::new(
                "--ttl: a trace goes through all of them, from 1 on",
                "How far it goes is said by --hops N.",
            ));
        }
        if self.store.config.is_some() {
            return Err(Mistake::new(
                "--config: a trace reads no config file",
                "Name its destinations on the command line, or in a list: -f FILE.",
            ));
        }
        let passes = self.count.unwrap_or(1);
        Ok(Settings {
            count: Some(passes * u64::from(self.hops().get())),
            format: self.format.and_then(|style| match style {
                Style::Table => None,
                Style::Json => Some(Format::Json),
            }),
            ..self.spool.over(self.store.over(self.probe.settings()))
        })
    }

    /// Where `trace` differs from `run` when nothing is said.
    pub fn own_defaults() -> Settings {
        Settings {
            store: Some(StoreChoice::None),
            ..Settings::default()
        }
    }

    /// Makes traces of a run.
    ///
    /// # Errors
    ///
    /// Too many hops, or too many probes of a flow in flight.
    pub fn traced(&self, mut options: RunOptions) -> Result<RunOptions, Mistake> {
        let hops = u64::from(self.hops().get());
        let destinations = options
            .destinations
            .iter()
            .filter_map(|spec| Written::parse(&spec.host).ok())
            .map(|written| written.form.count() as u64)
            .fold(0, u64::saturating_add);
        if destinations.saturating_mul(hops) > HOPS_MAX {
            return Err(Mistake::new(
                format!(
                    "{} destinations of up to {hops} hops are too many for one trace",
                    grouped(u128::from(destinations))
                ),
                format!(
                    "All hops together may be {}: use fewer destinations, or --hops N.",
                    grouped(u128::from(HOPS_MAX))
                ),
            ));
        }
        for spec in &options.destinations {
            if spec.protocol == ProtocolName::Udp && spec.size < UDP_SEQUENCE_SIZE {
                return Err(Mistake::new(
                    format!(
                        "--size: UDP probes of a trace have at least {UDP_SEQUENCE_SIZE} bytes"
                    ),
                    "Shorter ones could not be told apart, and many are in flight at once.",
                ));
            }
            let pass_ns = spec.interval_ns.max(PASS_SPREAD_NS);
            let in_flight = (spec.timeout_ns / pass_ns + 2).saturating_mul(hops);
            if in_flight > IN_FLIGHT_MAX {
                return Err(Mistake::new(
                    format!(
                        "timeout {} is too long for passes of {hops} hops every {}: {} probes \
                         would be in flight",
                        show_duration(spec.timeout_ns),
                        show_duration(pass_ns),
                        grouped(u128::from(in_flight))
                    ),
                    format!(
                        "To one destination at most {} can be: use a shorter --timeout, a longer \
                         --interval or fewer --hops.",
                        grouped(u128::from(IN_FLIGHT_MAX))
                    ),
                ));
            }
        }
        options.trace = Some(self.hops());
        Ok(options)
    }

    fn hops(&self) -> NonZeroU8 {
        self.hops.unwrap_or(HOPS_DEFAULT)
    }
}

fn hops(text: &str) -> Result<NonZeroU8, Mistake> {
    let number = text.parse().ok().and_then(NonZeroU8::new);
    number.ok_or_else(|| {
        Mistake::new(
            format!("{text:?} is not a number of hops"),
            format!("Allowed are {} to {}.", TTL.start(), TTL.end()),
        )
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};
    use crate::config;

    fn options(words: &str) -> Result<RunOptions, String> {
        let line = ["pinger", "trace"].into_iter().chain(words.split(' '));
        let cli = Cli::try_parse_from(line).map_err(|error| error.to_string())?;
        let Command::Trace(args) = cli.command else {
            panic!("{words} is no trace");
        };
        let settings = args.settings().map_err(|mistake| mistake.to_string())?;
        let own = TraceArgs::own_defaults();
        let options = config::assemble(&settings, &Settings::default(), &own, false);
        let options = options.map_err(|mistakes| mistakes.to_string())?;
        args.traced(options).map_err(|mistake| mistake.to_string())
    }

    #[test]
    fn what_is_not_said_has_its_default() {
        let found = options("192.0.2.1").unwrap();
        assert_eq!((found.trace, found.count), (NonZeroU8::new(30), Some(30)));
        assert_eq!(found.store.choice, StoreChoice::None);
        assert_eq!(found.format, Format::Plain);
        assert_eq!(found.destinations[0].interval_ns, 1_000_000_000);
    }

    #[test]
    fn a_count_is_of_passes() {
        let words = "-c 7 --hops 16 --interval 2s --format json --store embedded 192.0.2.1";
        let found = options(words).unwrap();
        assert_eq!((found.trace, found.count), (NonZeroU8::new(16), Some(112)));
        assert_eq!(found.store.choice, StoreChoice::Embedded);
        assert_eq!(found.format, Format::Json);
        assert_eq!(found.destinations[0].interval_ns, 2_000_000_000);
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_what_does() {
        for (words, part) in [
            ("--ttl 9 192.0.2.1", "--hops N"),
            ("--size 3 udp://192.0.2.1:9", "at least 4 bytes"),
            ("udp://10.0.0.0/14:9", "1,048,576"),
            ("--config x.toml 192.0.2.1", "-f FILE"),
            ("--hops 0 192.0.2.1", "1 to 255"),
            ("--hops 256 192.0.2.1", "1 to 255"),
            ("--format jsn 192.0.2.1", "table and json"),
            ("10.0.0.0/14", "1,048,576"),
            (
                "--hops 255 --timeout 15m --interval 1s 192.0.2.1",
                "230,010",
            ),
        ] {
            let told = options(words).unwrap_err();
            assert!(told.contains(part), "{words}: {told}");
        }
    }
}
