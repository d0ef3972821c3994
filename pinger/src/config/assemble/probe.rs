//! What shapes the probes of one destination: its own settings, those for all, and what does not
//! go together.

use super::super::value::{
    IN_FLIGHT_MAX, INTERVAL_DEFAULT_NS, SIZE_DEFAULT, TIMEOUT_DEFAULT_NS, TTL_DEFAULT,
};
use super::super::{Asked, DestinationSpec, Family, ProbeSettings, Settings, show_duration};
use crate::destination::{self, ProtocolName, Written};
use crate::flow::UDP_SEQUENCE_SIZE;
use crate::mistake::{Mistake, counted};

/// The places that set something for all destinations.
#[derive(Clone, Copy)]
pub(super) struct Layers<'a> {
    pub(super) command_line: &'a Settings,
    pub(super) file: &'a Settings,
    /// The command's own defaults.
    pub(super) own: &'a Settings,
}

impl Layers<'_> {
    /// The first that sets a field: the command line, the destination, the file, the command.
    fn pick<T>(
        &self,
        asked: &ProbeSettings,
        field: impl Fn(&ProbeSettings) -> Option<T>,
    ) -> Option<T> {
        let general = |settings: &Settings| field(&settings.probe);
        general(self.command_line)
            .or_else(|| field(asked))
            .or_else(|| general(self.file))
            .or_else(|| general(self.own))
    }

    /// The mistake that a destination without settings of its own would have in its times.
    pub(super) fn general(&self) -> Result<(), Mistake> {
        let nothing = ProbeSettings::default();
        let protocol = self.pick(&nothing, |s| s.protocol).unwrap_or_default();
        let data = self.pick(&nothing, |s| s.data.clone());
        let size = self.size(&nothing, data.as_deref());
        self.timing(&nothing, protocol, size).map(drop)
    }

    /// One destination with all gaps filled; `written` is what its word says.
    pub(super) fn spec(
        &self,
        asked: &Asked,
        written: &Written,
    ) -> Result<DestinationSpec, Mistake> {
        let own = &asked.probe;
        said_once(own, written)?;
        // What the word says is part of what is probed, so nothing overrides it.
        let protocol = written
            .protocol
            .or_else(|| self.pick(own, |s| s.protocol))
            .unwrap_or_default();
        let port = written.port.or_else(|| self.pick(own, |s| s.port));
        let port = check_port(asked, written, protocol, port)?;
        let (data, size) = if protocol.has_payload() {
            let data = self.pick(own, |s| s.data.clone());
            let size = self.size(own, data.as_deref());
            (data, size)
        } else {
            no_payload(own)?;
            (None, 0)
        };
        let (interval_ns, timeout_ns) = self.timing(own, protocol, size)?;
        let from = self.pick(own, |s| s.from.clone());
        self.check_from(from.as_ref())?;
        // One that the command line names is the run's.
        let interface = match self.command_line.interface {
            Some(_) => None,
            None => asked.interface.clone(),
        };
        Ok(DestinationSpec {
            host: asked.host.clone(),
            id: asked.id,
            protocol,
            port,
            interval_ns,
            timeout_ns,
            size,
            ttl: self.pick(own, |s| s.ttl).unwrap_or(TTL_DEFAULT),
            data,
            traffic_class: self.pick(own, |s| s.traffic_class).unwrap_or(0),
            dont_fragment: self.pick(own, |s| s.dont_fragment).unwrap_or(true),
            from,
            interface,
        })
    }

    /// Refuses an address to come from that is not of the only family asked for.
    fn check_from(&self, from: Option<&destination::From>) -> Result<(), Mistake> {
        let family = self.command_line.family.or(self.file.family);
        match (from, family) {
            (Some(destination::From::Address(from)), Some(family))
                if from.is_ipv4() != (family == Family::Ipv4) =>
            {
                Err(Mistake::new(
                    format!("probes cannot come from {from}: only the other family is asked for"),
                    "Choose another address to come from, or leave -4, -6 and family out.",
                ))
            }
            _ => Ok(()),
        }
    }

    /// Payload bytes: as asked for, but never less than the data; of data alone, its length.
    fn size(&self, asked: &ProbeSettings, data: Option<&[u8]>) -> u16 {
        // `value` keeps data within what a payload holds.
        let room = data.map(|data| data.len() as u16);
        match self.pick(asked, |s| s.size) {
            Some(size) => size.max(room.unwrap_or(0)),
            None => room.unwrap_or(SIZE_DEFAULT),
        }
    }

    /// Interval and timeout, nanoseconds.
    fn timing(
        &self,
        asked: &ProbeSettings,
        protocol: ProtocolName,
        size: u16,
    ) -> Result<(u64, u64), Mistake> {
        let interval_ns = self
            .pick(asked, |s| s.interval_ns)
            .unwrap_or(INTERVAL_DEFAULT_NS);
        let one_at_a_time = protocol == ProtocolName::Udp && size < UDP_SEQUENCE_SIZE;
        let in_flight_max = if one_at_a_time { 1 } else { IN_FLIGHT_MAX };
        let longest_ns = interval_ns.saturating_mul(in_flight_max);
        let given = self.pick(asked, |s| s.timeout_ns);
        let timeout_ns = given.unwrap_or(TIMEOUT_DEFAULT_NS.min(longest_ns));
        if timeout_ns <= longest_ns {
            return Ok((interval_ns, timeout_ns));
        }
        let (timeout, interval) = (show_duration(timeout_ns), show_duration(interval_ns));
        if one_at_a_time {
            return Err(Mistake::new(
                format!(
                    "timeout {timeout} is longer than interval {interval} by UDP of size {size}"
                ),
                format!(
                    "A datagram has room for its number from {UDP_SEQUENCE_SIZE} bytes on; of \
                     shorter ones only one can be in flight.\n\
                     Use a size of {UDP_SEQUENCE_SIZE} or more, or a timeout of {interval} or less."
                ),
            ));
        }
        let interval_shortest_us = timeout_ns.div_ceil(IN_FLIGHT_MAX).div_ceil(1_000);
        Err(Mistake::new(
            format!(
                "timeout {timeout} is too long for interval {interval}: {} would be in flight",
                counted(u128::from(timeout_ns.div_ceil(interval_ns)), "probe"),
            ),
            format!(
                "A probe's number has 16 bits, so at most {} can be in flight at once.\n\
                 Use a timeout of at most {}, or an interval of at least {interval_shortest_us}us.",
                counted(u128::from(IN_FLIGHT_MAX), "probe"),
                show_duration(longest_ns),
            ),
        ))
    }

    /// Settings for all that not one destination has a use for: most likely the protocol is
    /// forgotten. Those of a file may be there for other command lines.
    pub(super) fn useless(&self, specs: &[DestinationSpec]) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        if specs.is_empty() {
            return mistakes;
        }
        let changed = self.command_line.probe.protocol.is_some()
            || !self.command_line.destinations.is_empty();
        let mut check = |used: bool, key: &'static str, set: fn(&ProbeSettings) -> bool, why| {
            if used {
                return;
            }
            let (what, advice) = why;
            if set(&self.command_line.probe) {
                mistakes.push(Mistake::new(what, advice).at(format_args!("--{key}")));
            } else if set(&self.file.probe) && !changed {
                let mistake = Mistake::new(what, advice).at(key);
                mistakes.push(match self.file.places.get(key) {
                    Some(place) => mistake.at(place),
                    None => mistake,
                });
            }
        };
        let ported = specs.iter().any(|spec| spec.protocol.has_port());
        check(ported, "port", |s| s.port.is_some(), PORTLESS);
        let loaded = specs.iter().any(|spec| spec.protocol.has_payload());
        check(loaded, "data", |s| s.data.is_some(), NO_PAYLOAD);
        check(loaded, "size", |s| s.size > Some(0), NO_PAYLOAD);
        mistakes
    }
}

/// Said of a port that no destination has a use for, and the advice.
const PORTLESS: (&str, &str) = (
    "a port is set, but ICMP has none",
    "Leave it out, or choose a protocol with ports: tcp or udp.",
);

/// Said of data or a size that no destination has a use for, and the advice.
const NO_PAYLOAD: (&str, &str) = (
    "a payload is set, but a TCP probe is a SYN, which carries none",
    "Leave size and data out, or choose another protocol: icmp or udp.",
);

/// What a destination's word says, its table must not say differently.
fn said_once(own: &ProbeSettings, written: &Written) -> Result<(), Mistake> {
    let differ = |key: &str, in_word: String, in_table: String| {
        Err(Mistake::new(
            format!("{key} is {in_word} in the host, but {in_table} beside it"),
            "Say it in one of the two.",
        ))
    };
    match (written.protocol, own.protocol) {
        (Some(word), Some(table)) if word != table => {
            return differ("protocol", word.to_string(), table.to_string());
        }
        _ => {}
    }
    match (written.port, own.port) {
        (Some(word), Some(table)) if word != table => {
            differ("port", word.to_string(), table.to_string())
        }
        _ => Ok(()),
    }
}

/// The port of a destination, 0 for ICMP.
fn check_port(
    asked: &Asked,
    written: &Written,
    protocol: ProtocolName,
    port: Option<u16>,
) -> Result<u16, Mistake> {
    match (protocol.has_port(), port) {
        (true, Some(port)) => Ok(port),
        (true, None) => {
            let scheme = protocol.to_string().to_lowercase();
            Err(Mistake::new(
                format!("{:?} names no port, and {protocol} needs one", asked.host),
                format!(
                    "Write {scheme}://{}:PORT, or set a port: --port PORT, in the config file \
                     port = PORT.",
                    written.host
                ),
            ))
        }
        (false, _) if asked.probe.port.is_some() || written.port.is_some() => {
            Err(Mistake::new(PORTLESS.0, PORTLESS.1))
        }
        (false, _) => Ok(0),
    }
}

/// Refuses what a destination by TCP sets of a payload.
fn no_payload(own: &ProbeSettings) -> Result<(), Mistake> {
    match (own.data.is_some(), own.size) {
        (false, None | Some(0)) => Ok(()),
        _ => Err(Mistake::new(NO_PAYLOAD.0, NO_PAYLOAD.1)),
    }
}
