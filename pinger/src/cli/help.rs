//! The longer texts of `--help`. Lines stay within 78 columns: clap does not wrap them well.

pub(super) const WHAT: &str = "What to probe";
pub(super) const HOW: &str = "How";
pub(super) const WHERE: &str = "Where results go";
pub(super) const SEE: &str = "What you see";
pub(super) const EXPERT: &str = "For experts";

pub(super) const ABOUT: &str = "\
Probes many hosts at exact intervals and keeps every single result.

Probes leave by AF_XDP, past the kernel's network stack; the moment a reply
arrives, a small program in the kernel stamps it and matches it to its probe.
So round trips hold the network's time and little of this host's. Every probe
becomes one row in ClickHouse, an engine of pinger's own unless you name yours.";

pub(super) const AFTER: &str = "\
First steps (as root: sending raw packets needs it):
  pinger ping 192.0.2.1                    five probes, a line for each reply
  pinger run 192.0.2.1 example.org         every second, until Ctrl-C
  pinger run --interval 100ms 10.0.0.0/24  a whole network, ten times a second
  pinger ping tcp://example.org:443        does the web server take connections?
  pinger sql \"SHOW TABLES\"                 ask the store what it has
  pinger export --from 1d -o day.parquet   take results elsewhere

`pinger run --help` explains all settings. Times are written with their unit:
10us, 100ms, 1.5s, 2m, 1h, 1d.

Exit codes: 0 done (Ctrl-C is a normal end), 1 failed, 2 the command line or
the config file is wrong, 3 done, but not every result could be kept, 130
ended at once by a second Ctrl-C.";

pub(super) const AFTER_RUN: &str = "\
Examples:
  pinger run -i eth0 192.0.2.1 2001:db8::1      two hosts through eth0
  pinger run --interval 10ms --duration 1m 10.0.0.1-10.0.0.50
  pinger run -f hosts.txt --store none          a list of hosts, nothing kept
  pinger run tcp://192.0.2.1:443 udp://[2001:db8::1]:7    ports, by TCP and UDP
  pinger run --protocol tcp --port 22 10.0.0.0/24         one port of many hosts
  pinger run --config pinger.toml               all settings from a file
  pinger run --store http://me@db:8123/net DEST results into your ClickHouse
  pinger run --duration 10s --format json DEST  one JSON object, for scripts

Names are looked up once, at the start. During the run a small XDP program sits
on the interface: it takes the replies to these probes and lets all else pass.
Ctrl-C stops sending, awaits what is in flight and stores it; a second Ctrl-C
ends at once.

Which setting counts: the command line, then the environment (PINGER_DATA_DIR),
then the config file, then the default. What the command line says holds for
every destination; destinations that it names replace those of the file.
pinger.example.toml explains each setting of the file.

Exit codes: 0 done, 1 failed, 2 the command line or the config file is wrong,
3 done, but not every result could be kept (the summary says why), 130 ended
at once by a second Ctrl-C. Results that wait on disk are kept: that is 0.";

pub(super) const AFTER_PING: &str = "\
Examples:
  pinger ping 192.0.2.1 example.org
  pinger ping -c 100 --interval 10ms -s 1400 192.0.2.1
  pinger ping --dscp 46 --data hello udp://192.0.2.1:7

Nothing is kept; `pinger run` keeps results. -i names the interface here, the
interval is --interval with a unit, such as 200ms.
Exit codes: 0 replies came, 1 none came or it failed, 2 command line wrong.";

pub(super) const AFTER_SQL: &str = "\
Examples:
  pinger sql \"SHOW TABLES\"
  pinger sql \"SELECT outcome, count() FROM results GROUP BY outcome\"

Works while `pinger run` is running (it uses that engine) and when it is not.";
