//! The config file: TOML text to [`Settings`].
//!
//! The document is walked by hand instead of through serde, so that one reading finds every
//! mistake, each with its line and column, and a misspelt key gets a suggestion.

mod reader;

use std::fmt::Write as _;
use std::ops::Range;
use std::path::PathBuf;

use toml::de::{DeTable, DeValue};

use super::{Asked, ProbeSettings, Settings, Text, spool, value};
use crate::destination::Written;
use crate::mistake::{Mistake, Mistakes, listed, nearest};
use reader::{Key, Reader, Value};

/// Keys at the top of the file.
const GENERAL_KEYS: [&str; 14] = [
    "interface",
    "count",
    "duration",
    "flood",
    "family",
    "format",
    "batch",
    "cpu",
    "verify",
    "kernel_log",
    "destinations",
    "destination",
    "source",
    "store",
];
/// Keys of `[source]`.
const SOURCE_KEYS: [&str; 4] = ["id", "location", "host", "sourceid"];
/// Keys of `[store]`.
const STORE_KEYS: [&str; 9] = [
    "to",
    "port",
    "password_file",
    "data_dir",
    "spool",
    "spool_size",
    "spool_age",
    "spool_drop",
    "spool_sync",
];
/// Keys of a `[[destination]]`.
const DESTINATION_KEYS: [&str; 3] = ["host", "id", "interface"];
/// Keys of both, what shapes probes: at the top for all destinations, in a table for one.
const PROBE_KEYS: [&str; 12] = [
    "protocol",
    "port",
    "interval",
    "timeout",
    "size",
    "ttl",
    "data",
    "data_hex",
    "tos",
    "dscp",
    "dont_fragment",
    "from",
];

/// Reads a config file's text.
///
/// # Errors
///
/// All mistakes in the order of the text: file, line, column, key, what was found and what is
/// allowed.
pub fn settings_of_file(file: &Text) -> Result<Settings, Mistakes> {
    let mut reader = Reader::new(file);
    let (document, errors) = DeTable::parse_recoverable(&file.body);
    if errors.is_empty() {
        let settings = reader.settings(document.get_ref());
        if reader.mistakes.is_empty() {
            return Ok(settings);
        }
    }
    let mut line_told = 0;
    for error in errors {
        // A second error in one line is nearly always a consequence of the first.
        let span = error.span().unwrap_or(0..0);
        let line = reader.line(span.start);
        if line == line_told {
            continue;
        }
        line_told = line;
        let advice = "The file is TOML: lines of key = value, texts in \"quotes\", \
                      for example\ninterval = \"100ms\"";
        reader.complain(
            span,
            Mistake::new(format!("not TOML: {}", error.message()), advice),
        );
    }
    Err(reader.into_mistakes())
}

impl Reader<'_> {
    fn settings(&mut self, table: &DeTable<'_>) -> Settings {
        let mut settings = Settings::default();
        let mut short_list = Vec::new();
        for (key, value) in table {
            match &**key.get_ref() {
                "interface" => settings.interface = self.text(key, value, value::interface),
                "count" => settings.count = self.number(key, value, value::count),
                "duration" => settings.duration = self.time(key, value, value::duration),
                "flood" => settings.flood = self.flag(key, value),
                "family" => settings.family = self.text(key, value, value::family),
                "format" => settings.format = self.text(key, value, value::format),
                "batch" => settings.batch = self.number(key, value, value::batch),
                "cpu" => settings.cpu = self.number(key, value, value::cpu),
                "verify" => settings.verify = self.flag(key, value),
                "kernel_log" => settings.kernel_log = self.flag(key, value),
                "destinations" => short_list = self.short_list(key, value),
                "destination" => settings.destinations = self.destination_tables(key, value),
                "source" => self.within("source", |r| r.source(key, value, &mut settings)),
                "store" => self.within("store", |r| r.store(key, value, &mut settings)),
                _ => match self.probe(key, value, &mut settings.probe) {
                    Some(known) => {
                        let place = self.place(value.span().start);
                        settings.places.insert(known, place);
                    }
                    None => self.unknown_key(key, &[&GENERAL_KEYS[..], &PROBE_KEYS].concat()),
                },
            }
        }
        // Tables first: where both name an address, the one with own settings stands.
        settings.destinations.extend(short_list);
        settings
    }

    /// Reads one of [`PROBE_KEYS`] and returns it; `None` if it is another key.
    fn probe(
        &mut self,
        key: &Key<'_>,
        value: &Value<'_>,
        probe: &mut ProbeSettings,
    ) -> Option<&'static str> {
        let known = PROBE_KEYS
            .into_iter()
            .find(|known| known == key.get_ref())?;
        match known {
            "protocol" => probe.protocol = self.text(key, value, value::protocol),
            "port" => probe.port = self.number(key, value, value::port),
            "interval" => probe.interval_ns = self.time(key, value, value::interval),
            "timeout" => probe.timeout_ns = self.time(key, value, value::timeout),
            "size" => probe.size = self.number(key, value, value::size),
            "ttl" => probe.ttl = self.number(key, value, value::ttl),
            "data" => {
                let data = self.text(key, value, value::data);
                self.one_of_two(key, "data_hex", data, &mut probe.data);
            }
            "data_hex" => {
                let data = self.text(key, value, value::data_hex);
                self.one_of_two(key, "data", data, &mut probe.data);
            }
            "tos" => {
                let class = self.number(key, value, value::tos);
                self.one_of_two(key, "dscp", class, &mut probe.traffic_class);
            }
            "dscp" => {
                let class = self.number(key, value, value::dscp);
                self.one_of_two(key, "tos", class, &mut probe.traffic_class);
            }
            "dont_fragment" => probe.dont_fragment = self.flag(key, value),
            _ => probe.from = self.text(key, value, value::from),
        }
        Some(known)
    }

    fn source(&mut self, key: &Key<'_>, value: &Value<'_>, settings: &mut Settings) {
        for (key, value) in self.table(key, value).into_iter().flatten() {
            let field = match &**key.get_ref() {
                "id" => &mut settings.source_id,
                "location" => &mut settings.source_location,
                "host" => &mut settings.source_host,
                "sourceid" => &mut settings.source_sourceid,
                _ => {
                    self.unknown_key(key, &SOURCE_KEYS);
                    continue;
                }
            };
            *field = self.number(key, value, value::source_number);
        }
    }

    /// `store = "none"` says the same as `[store]` with `to = "none"`.
    fn store(&mut self, key: &Key<'_>, value: &Value<'_>, settings: &mut Settings) {
        if matches!(value.get_ref(), DeValue::String(_)) {
            settings.store = self.text(key, value, value::store);
            return;
        }
        let path = |text: &str| Ok(PathBuf::from(text));
        for (key, value) in self.table(key, value).into_iter().flatten() {
            match &**key.get_ref() {
                "to" => settings.store = self.text(key, value, value::store),
                "port" => settings.store_port = self.number(key, value, value::port),
                "password_file" => settings.store_password_file = self.text(key, value, path),
                "data_dir" => settings.data_dir = self.text(key, value, path),
                "spool" => settings.spool_place = self.text(key, value, spool::place),
                "spool_size" => settings.spool_bytes_max = self.bytes(key, value, spool::size),
                "spool_age" => settings.spool_age_max_ns = self.time(key, value, spool::age),
                "spool_drop" => settings.spool_drop = self.text(key, value, spool::drop),
                "spool_sync" => settings.spool_sync = self.text(key, value, spool::sync),
                _ => self.unknown_key(key, &STORE_KEYS),
            }
        }
    }

    fn short_list(&mut self, key: &Key<'_>, value: &Value<'_>) -> Vec<Asked> {
        let DeValue::Array(array) = value.get_ref() else {
            self.wrong_type::<()>(
                key,
                value,
                "a list such as [\"example.org\", \"10.0.0.0/24\"]",
            );
            return Vec::new();
        };
        let mut asked = Vec::with_capacity(array.len());
        for entry in array {
            if !matches!(entry.get_ref(), DeValue::String(_)) {
                self.wrong_type::<()>(key, entry, "a list of texts in quotes");
            } else if let Some(host) = self.text(key, entry, host) {
                let place = Some(self.place(entry.span().start));
                asked.push(Asked {
                    host,
                    place,
                    ..Asked::default()
                });
            }
        }
        asked
    }

    fn destination_tables(&mut self, key: &Key<'_>, value: &Value<'_>) -> Vec<Asked> {
        const EXAMPLE: &str = "one or more tables, each under a line [[destination]]";
        let DeValue::Array(array) = value.get_ref() else {
            self.wrong_type::<()>(key, value, EXAMPLE);
            return Vec::new();
        };
        let mut asked = Vec::with_capacity(array.len());
        for entry in array {
            match entry.get_ref() {
                DeValue::Table(table) => asked.extend(self.within("destination", |reader| {
                    reader.destination(entry.span(), table)
                })),
                _ => drop(self.wrong_type::<()>(key, entry, EXAMPLE)),
            }
        }
        asked
    }

    /// One `[[destination]]`; `None` if it names no valid host.
    fn destination(&mut self, span: Range<usize>, table: &DeTable<'_>) -> Option<Asked> {
        let mut asked = Asked {
            place: Some(self.place(span.start)),
            ..Asked::default()
        };
        let mut valid = false;
        let mut named = false;
        for (key, value) in table {
            match &**key.get_ref() {
                "host" => {
                    named = true;
                    if let Some(host) = self.text(key, value, host) {
                        valid = true;
                        asked.host = host;
                    }
                }
                "id" => asked.id = self.number(key, value, value::id),
                "interface" => asked.interface = self.text(key, value, value::interface),
                _ => {
                    if self.probe(key, value, &mut asked.probe).is_none() {
                        let allowed = [&DESTINATION_KEYS[..], &PROBE_KEYS].concat();
                        self.unknown_key(key, &allowed);
                    }
                }
            }
        }
        if !named {
            let advice = "Add a line such as host = \"example.org\" under [[destination]].";
            self.complain(span, Mistake::new("this destination has no host", advice));
        }
        valid.then_some(asked)
    }

    fn unknown_key(&mut self, key: &Key<'_>, allowed: &[&str]) {
        let table = self.table;
        let name = &**key.get_ref();
        let mut advice = String::new();
        let homes = [
            ("source", &SOURCE_KEYS[..]),
            ("store", &STORE_KEYS),
            ("", &GENERAL_KEYS),
            ("", &PROBE_KEYS),
        ];
        // "host" and "id" stand in two tables each; nobody misses them at the top by accident.
        let home = homes
            .iter()
            .find(|(home, keys)| *home != table && keys.contains(&name));
        // Writing to a String cannot fail.
        let _ = match (nearest(name, allowed), home) {
            (Some(meant), _) => write!(advice, "Did you mean {meant}? "),
            (None, Some((home, _))) if !home.is_empty() => {
                write!(advice, "It belongs under [{home}]. ")
            }
            (None, Some(_)) => write!(advice, "It belongs at the top, before the first [table]. "),
            (None, None) => Ok(()),
        };
        let here = if table.is_empty() {
            "at the top".into()
        } else {
            format!("in [{table}]")
        };
        let _ = write!(advice, "Allowed {here}:\n{}.", listed(allowed));
        self.complain(
            key.span(),
            Mistake::new(format!("there is no setting {name:?}"), advice),
        );
    }
}

fn host(text: &str) -> Result<String, Mistake> {
    Written::parse(text).map(|_| text.to_owned())
}

#[cfg(test)]
mod tests;
