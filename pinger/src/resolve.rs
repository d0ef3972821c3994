//! Name resolution: destinations as asked for become destinations with addresses.
//!
//! In: [`DestinationSpec`]s. Out: [`Destination`]s without duplicates, and what had to be left out
//! and why. Asks the system's resolver (`getaddrinfo`), several names at a time.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{bounded, select, tick};

use crate::config::{DestinationSpec, Family};
use crate::destination::{
    self, Destination, DestinationList, Form, MAX_DESTINATIONS, Protocol, Refused, Ttl, Written,
    check_address,
};
use crate::mistake::{self, counted};

/// Names looked up at the same time: enough to hide a slow name server, few enough not to be
/// taken for an attack by it.
pub const LOOKUPS_MAX: usize = 16;

/// How often the caller hears of progress; lookups that take less are not worth a word.
const PROGRESS_PERIOD: Duration = Duration::from_secs(1);

/// How far the lookups are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Names looked up so far, with or without success.
    pub done: usize,
    /// Names in all.
    pub total: usize,
}

/// Something that was asked for and is not probed, or not as asked. The run goes on without it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The resolver knows no address.
    #[error("{host} is not probed: {reason}")]
    Unresolved {
        /// What the user wrote.
        host: String,
        /// Why, in the resolver's words and ours.
        reason: String,
    },
    /// There are addresses, but not of the family that was asked for.
    #[error("{host} is not probed: it has no {} address", family_name(*.family))]
    OtherFamily {
        /// What the user wrote.
        host: String,
        /// The family that was asked for.
        family: Family,
    },
    /// The address is one from which no answer can come that would be known as its own.
    #[error("{host} is not probed: {reason}")]
    Unfit {
        /// What the user wrote.
        host: String,
        /// Why.
        reason: String,
    },
    /// The same address is on the list already.
    #[error(
        "{host} is probed only once: {} on the list already, the first as {first} ({address}), \
         whose settings hold",
        are_on(*.count)
    )]
    Merged {
        /// What the user wrote the second time.
        host: String,
        /// How many of its addresses.
        count: usize,
        /// The first of them.
        address: IpAddr,
        /// What the user wrote the first time.
        first: String,
    },
    /// Another destination has the same id.
    #[error("{host} is not probed: its id {id} belongs to {first}")]
    IdTaken {
        /// What the user wrote.
        host: String,
        /// The id.
        id: u64,
        /// The destination that has it.
        first: String,
    },
    /// The list is full.
    #[error(
        "{host} is not probed: the list is full with {}",
        counted(MAX_DESTINATIONS as u128, "destination")
    )]
    Full {
        /// What the user wrote.
        host: String,
    },
}

fn family_name(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "IPv4",
        Family::Ipv6 => "IPv6",
    }
}

fn are_on(count: usize) -> String {
    if count == 1 {
        "its address is".into()
    } else {
        format!("{count} of its addresses are")
    }
}

/// What there is to probe, and what is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolved {
    /// In the order in which they were asked for; never empty when returned by [`resolve`].
    pub destinations: Vec<Destination>,
    /// At most a few for each that was asked for.
    pub problems: Vec<Problem>,
}

/// Why there is nothing to probe.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// Not one destination is left.
    #[error("none of the destinations can be probed:{}", mistake::reasons(.0))]
    NothingLeft(Vec<Problem>),
    /// The system refused to start even one thread.
    #[error("cannot start a thread to look names up: raise the limit of processes (ulimit -u)")]
    Thread(#[source] io::Error),
}

/// Looks up all names and expands all blocks.
///
/// Of several addresses the first is taken, in the system's order (RFC 6724 and /etc/gai.conf),
/// among those of `family`. `progress` is called about once a second while lookups take longer.
/// A lookup cannot be cancelled, so call this before signals are taken over: until then Ctrl-C
/// ends the program.
///
/// # Errors
///
/// [`ResolveError`] if nothing is left to probe.
pub fn resolve(
    specs: &[DestinationSpec],
    family: Option<Family>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Resolved, ResolveError> {
    resolve_by(&system_lookup, specs, family, progress)
}

/// All addresses of a name, in the order of preference.
type Lookup<'a> = dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Sync + 'a;
type Answers<'a> = HashMap<&'a str, io::Result<Vec<IpAddr>>>;

fn system_lookup(host: &str) -> io::Result<Vec<IpAddr>> {
    Ok((host, 0)
        .to_socket_addrs()?
        .map(|socket| socket.ip())
        .collect())
}

fn resolve_by(
    lookup: &Lookup<'_>,
    specs: &[DestinationSpec],
    family: Option<Family>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Resolved, ResolveError> {
    let all_written: Vec<_> = specs
        .iter()
        .map(|spec| Written::parse(&spec.host))
        .collect();
    let mut names: Vec<&str> = all_written
        .iter()
        .flatten()
        .filter_map(|written| match &written.form {
            Form::Host(name) => Some(name.as_str()),
            Form::Addresses(_) => None,
        })
        .collect();
    names.sort_unstable();
    names.dedup();
    let answers = look_up(lookup, &names, progress).map_err(ResolveError::Thread)?;

    let mut gather = Gather {
        family,
        ..Gather::default()
    };
    for (spec, written) in specs.iter().zip(&all_written) {
        match written.as_ref().map(|written| &written.form) {
            Ok(Form::Host(name)) => gather.name(spec, name, &answers[name.as_str()]),
            Ok(Form::Addresses(block)) => gather.block(spec, None, block.addresses()),
            Err(mistake) => gather.problems.push(Problem::Unfit {
                host: spec.host.clone(),
                reason: mistake.what.clone(),
            }),
        }
    }
    let resolved = Resolved {
        destinations: gather.list.into_vec(),
        problems: gather.problems,
    };
    if resolved.destinations.is_empty() {
        return Err(ResolveError::NothingLeft(resolved.problems));
    }
    Ok(resolved)
}

/// Each name's addresses. `names` are distinct.
fn look_up<'a>(
    lookup: &Lookup<'_>,
    names: &[&'a str],
    progress: &mut dyn FnMut(Progress),
) -> io::Result<Answers<'a>> {
    let mut answers = Answers::with_capacity(names.len());
    if names.is_empty() {
        return Ok(answers);
    }
    let next = AtomicUsize::new(0);
    // Room for every answer, so that no worker ever waits for us.
    let (sender, receiver) = bounded(names.len());
    thread::scope(|scope| {
        let mut refused = None;
        let mut workers = 0;
        for _ in 0..names.len().min(LOOKUPS_MAX) {
            let sender = sender.clone();
            let next = &next;
            let work = move || {
                while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
                    // The receiver lives as long as this scope.
                    let _ = sender.send((*name, lookup(name)));
                }
            };
            match thread::Builder::new()
                .name("lookup".into())
                .spawn_scoped(scope, work)
            {
                Ok(_) => workers += 1,
                Err(error) => refused = Some(error),
            }
        }
        drop(sender);
        if let (0, Some(error)) = (workers, refused) {
            return Err(error);
        }
        let clock = tick(PROGRESS_PERIOD);
        loop {
            select! {
                recv(receiver) -> answer => match answer {
                    Ok((name, addresses)) => drop(answers.insert(name, addresses)),
                    Err(_) => return Ok(answers),
                },
                recv(clock) -> _ => progress(Progress { done: answers.len(), total: names.len() }),
            }
        }
    })
}

/// The list under construction.
#[derive(Default)]
struct Gather {
    family: Option<Family>,
    list: DestinationList,
    problems: Vec<Problem>,
}

impl Gather {
    /// A host name: the first address that fits.
    fn name(&mut self, spec: &DestinationSpec, name: &str, answer: &io::Result<Vec<IpAddr>>) {
        let host = || spec.host.clone();
        let addresses = match answer {
            Ok(addresses) => addresses,
            Err(error) => {
                let reason = lookup_reason(error);
                self.problems.push(Problem::Unresolved {
                    host: host(),
                    reason,
                });
                return;
            }
        };
        let first = addresses
            .iter()
            .map(IpAddr::to_canonical)
            .find(|ip| self.wanted(spec, *ip));
        match first {
            Some(address) => self.block(spec, Some(name), std::iter::once(address)),
            None if !addresses.is_empty() => self.other_family(spec),
            None => {
                let reason = "the resolver knows the name, but no address".to_owned();
                self.problems.push(Problem::Unresolved {
                    host: host(),
                    reason,
                });
            }
        }
    }

    /// Addresses, of which all that fit are taken; `name` is that of the one they belong to.
    fn block(
        &mut self,
        spec: &DestinationSpec,
        name: Option<&str>,
        addresses: impl Iterator<Item = IpAddr>,
    ) {
        let host = || spec.host.clone();
        let mut merged: Option<(usize, IpAddr, String)> = None;
        for address in addresses {
            if !self.wanted(spec, address) {
                // All addresses of a block are of one family.
                self.other_family(spec);
                break;
            }
            if let Err(mistake) = check_address(address) {
                self.problems.push(Problem::Unfit {
                    host: host(),
                    reason: mistake.what,
                });
                break;
            }
            let name = name.map_or_else(|| address.to_string(), str::to_owned);
            match self.list.push(destination(spec, name, address)) {
                Ok(()) => {}
                Err(Refused::Merged(first)) => {
                    let entry = merged.get_or_insert_with(|| (0, address, first.name.clone()));
                    entry.0 += 1;
                }
                Err(Refused::IdTaken(first)) => {
                    let (id, first) = (first.id, first.name.clone());
                    self.problems.push(Problem::IdTaken {
                        host: host(),
                        id,
                        first,
                    });
                }
                Err(Refused::Full) => {
                    self.problems.push(Problem::Full { host: host() });
                    break;
                }
            }
        }
        if let Some((count, address, first)) = merged {
            self.problems.push(Problem::Merged {
                host: host(),
                count,
                address,
                first,
            });
        }
    }

    /// Tells that there is no address of the only family that will do.
    fn other_family(&mut self, spec: &DestinationSpec) {
        let host = spec.host.clone();
        self.problems.push(match (&spec.from, self.family) {
            (Some(destination::From::Address(from)), _) => Problem::Unfit {
                host,
                reason: format!(
                    "it has no {} address, and its probes are to come from {from}",
                    if from.is_ipv4() { "IPv4" } else { "IPv6" }
                ),
            },
            (_, Some(family)) => Problem::OtherFamily { host, family },
            (_, None) => unreachable!("any family will do for {host}"),
        });
    }

    /// Whether an address is of the family asked for, and of that of where the probes come from.
    fn wanted(&self, spec: &DestinationSpec, address: IpAddr) -> bool {
        let fits = |family| match family {
            None => true,
            Some(Family::Ipv4) => address.is_ipv4(),
            Some(Family::Ipv6) => address.is_ipv6(),
        };
        fits(self.family) && fits(family_from(spec))
    }
}

/// The family that a destination must have because its probes come from a given address.
fn family_from(spec: &DestinationSpec) -> Option<Family> {
    match spec.from {
        Some(destination::From::Address(IpAddr::V4(_))) => Some(Family::Ipv4),
        Some(destination::From::Address(IpAddr::V6(_))) => Some(Family::Ipv6),
        _ => None,
    }
}

fn destination(spec: &DestinationSpec, name: String, address: IpAddr) -> Destination {
    let protocol = Protocol::of(spec.protocol, address);
    Destination {
        id: spec
            .id
            .unwrap_or_else(|| Destination::stable_id(protocol, address, spec.port)),
        name,
        address,
        protocol,
        interval_ns: spec.interval_ns,
        timeout_ns: spec.timeout_ns,
        size: spec.size,
        ttl: Ttl::Fixed(spec.ttl),
        port: spec.port,
        data: spec.data.clone(),
        traffic_class: spec.traffic_class,
        dont_fragment: spec.dont_fragment,
        from: spec.from.clone(),
        interface: spec.interface.clone(),
    }
}

/// The resolver's reason, with what it means where that helps.
fn lookup_reason(error: &io::Error) -> String {
    let text = error.to_string();
    // The standard library puts this in front of what `gai_strerror` says.
    let reason = text
        .strip_prefix("failed to lookup address information: ")
        .unwrap_or(&text);
    let hint = match reason {
        // EAI_NONAME, EAI_NODATA and EAI_AGAIN in glibc's words.
        "Name or service not known" => " (check the spelling)",
        "No address associated with hostname" => " (the name exists, but has no address)",
        "Temporary failure in name resolution" => {
            " (no name server answered: see /etc/resolv.conf)"
        }
        _ => "",
    };
    format!("{reason}{hint}")
}

#[cfg(test)]
mod tests;
