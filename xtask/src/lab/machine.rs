//! The machine's one lab: hosts in the namespace `pinger-lab`, the prober's interface in the root
//! namespace, where any tool can use it.
//!
//! Who it belongs to stands in a [`record`](super::record): kept until `lab down`, or one run's,
//! which removes it at its end.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::addresses::{DEAD_ENDS, FAR, HOSTS_IPV4, HOSTS_IPV6, INTERFACE};
use super::namespace::{Namespace, ip_batch, ip_json};
use super::record::{DIRECTORY, Owner, Record, read_record, remove_record, write_record};
use super::services;
use super::topology::{Shape, Topology};
use crate::process;
use crate::progress::say;

/// The hosts' namespace.
pub const NAMESPACE: &str = "pinger-lab";

/// The prober's and the hosts' end of the link, as [`Topology`] makes them.
const OWN_MAC: &str = "02:70:69:6e:00:01";
pub(super) const OWN: [&str; 2] = ["198.19.0.1", "2001:2::1"];
pub(super) const GATEWAY: [&str; 2] = ["198.19.0.2", "2001:2::2"];

/// The lab as it is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Nothing of it is there.
    pub absent: bool,
    /// What is wrong with it, one clause a fault; empty in a lab that works.
    pub faults: Vec<String>,
    /// What is written down about it.
    pub record: Option<Record>,
}

impl State {
    /// Whether it is there and whole.
    pub fn is_up(&self) -> bool {
        !self.absent && self.faults.is_empty()
    }
}

/// What `up` found and did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Raised {
    /// It was there.
    Already,
    /// It was a run's; now it stays when that run ends.
    TakenOver(u32),
    /// It was not there.
    Made,
    /// It was there, with these faults.
    Repaired(Vec<String>),
}

/// Makes the lab, or repairs it, and keeps it until [`down`].
///
/// # Errors
/// Not root, something of the same name that is not ours is in the way, or the kernel refuses.
pub fn up() -> Result<Raised> {
    let _turn = Turn::take()?;
    let state = look()?;
    let raised = match state.record.map(|record| record.owner) {
        Some(Owner::Run { pid, .. }) if state.is_up() => Raised::TakenOver(pid),
        Some(Owner::Kept) if state.is_up() => return Ok(Raised::Already),
        _ if state.absent => Raised::Made,
        _ => Raised::Repaired(state.faults.clone()),
    };
    if !state.is_up() {
        make()?;
    }
    write_record(Owner::Kept)?;
    Ok(raised)
}

/// Removes the lab; gives whether there was anything to remove.
///
/// # Errors
/// Not root, a run is using it, or the kernel refuses.
pub fn down() -> Result<bool> {
    let turn = Turn::take()?;
    let state = look()?;
    if let Some(Record {
        owner: owner @ Owner::Run { pid, .. },
        ..
    }) = state.record
        && owner.is_alive()
    {
        bail!(
            "the lab belongs to a run that is at work (process {pid}), which removes it at its \
             end. Stop that run: Ctrl-C in its terminal, or `kill {pid}`"
        );
    }
    remove()?;
    turn.leave_nothing();
    Ok(!state.absent)
}

/// Looks at the lab; needs no root.
///
/// # Errors
/// `ip` is missing or cannot be asked.
pub fn look() -> Result<State> {
    let record = read_record();
    let interface = interface()?;
    let namespace = Namespace::exists(NAMESPACE);
    if interface.is_none() && !namespace {
        return Ok(State {
            absent: true,
            faults: Vec::new(),
            record,
        });
    }
    let mut faults = Vec::new();
    let mut expect = |holds: bool, fault: &str| {
        if !holds {
            faults.push(fault.to_owned());
        }
    };
    expect(namespace, "the namespace of the hosts is missing");
    expect(record.is_some(), "nobody is recorded as its owner");
    if let Some(interface) = &interface {
        expect(interface["operstate"] == "UP", "the interface is down");
        // Whose namespace is being removed, an interface may go between two questions.
        let ask = |what| ip_json(None, &format!("{what} dev {INTERFACE}")).unwrap_or_default();
        let addresses = ask("address show");
        expect(
            has_addresses(&addresses, OWN),
            "the interface lacks an address",
        );
        for prefix in routed() {
            let routes = route(None, prefix, "main")?;
            let fault = format!("a route to {prefix} is missing");
            expect(leads_into_lab(&routes), &fault);
        }
        let known = ask("neighbour show nud permanent");
        expect(has_neighbours(&known), "a static neighbour is missing");
    } else {
        expect(false, "the interface is missing");
    }
    // Asking inside a namespace is for root alone.
    if namespace && process::is_root() {
        let inside = Some(NAMESPACE);
        let addresses = ip_json(inside, &format!("address show dev {FAR}")).unwrap_or_default();
        expect(
            has_addresses(&addresses, GATEWAY),
            "the gateway lacks an address",
        );
        for prefix in [HOSTS_IPV4, HOSTS_IPV6] {
            let local = route(inside, prefix, "local")?;
            expect(
                is_nonempty(&local),
                "the hosts' kernel does not hold their prefixes",
            );
        }
        for fault in services::missing(NAMESPACE).unwrap_or_default() {
            expect(false, &fault);
        }
    }
    Ok(State {
        absent: false,
        faults,
        record,
    })
}

/// A run's use of the lab; at its end the lab is removed, unless it is kept.
#[derive(Debug)]
pub struct Visit {
    /// Us, if the lab is ours to remove.
    owner: Option<Owner>,
}

impl Visit {
    /// Uses the lab that is kept, or makes one for this process.
    ///
    /// # Errors
    /// As [`up`]; or another run's lab is in use.
    pub fn begin() -> Result<Self> {
        ensure!(
            process::is_root(),
            "the lab needs root, and so does sending probes: {}",
            process::as_root("run")
        );
        let _turn = Turn::take()?;
        let state = look()?;
        match state.record.map(|record| record.owner) {
            Some(Owner::Kept) => {
                if !state.is_up() {
                    say(&format!("repairing the lab: {}", state.faults.join("; ")));
                    make()?;
                }
                say("using the lab that is up; it stays when this run ends");
                return Ok(Self { owner: None });
            }
            Some(owner @ Owner::Run { pid, .. }) if owner.is_alive() => bail!(
                "another run (process {pid}) is using its lab. Wait for its end or stop it; to \
                 share one lab among tools, use `cargo xtask lab up` first"
            ),
            Some(Owner::Run { pid, .. }) if !state.absent => {
                say(&format!(
                    "replacing the lab of a run that is gone (process {pid})"
                ));
            }
            _ => {}
        }
        make()?;
        let owner = Owner::this_process()?;
        write_record(owner)?;
        say(&format!(
            "made the lab: {HOSTS_IPV4} and {HOSTS_IPV6} behind {INTERFACE}; removed at the end"
        ));
        Ok(Self { owner: Some(owner) })
    }

    fn end(owner: Owner) -> Result<()> {
        let turn = Turn::take()?;
        match read_record() {
            Some(record) if record.owner == owner => {
                remove()?;
                turn.leave_nothing();
            }
            Some(_) => say("the lab stays: `cargo xtask lab up` has taken it over"),
            // Somebody removed it under us.
            None => {}
        }
        Ok(())
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        if let Some(owner) = self.owner
            && let Err(error) = Self::end(owner)
        {
            say(&format!(
                "the lab could not be removed: {error:#}; try `cargo xtask lab down`"
            ));
        }
    }
}

/// The right to change the lab, held while the directory is locked.
struct Turn {
    _lock: File,
}

impl Turn {
    fn take() -> Result<Self> {
        ensure!(
            process::is_root(),
            "changing the lab needs root, for example: {}",
            process::as_root("lab up")
        );
        loop {
            fs::create_dir_all(DIRECTORY).with_context(|| format!("cannot create {DIRECTORY}"))?;
            let lock = match File::open(DIRECTORY) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                result => result.with_context(|| format!("cannot open {DIRECTORY}"))?,
            };
            lock.lock()
                .with_context(|| format!("cannot lock {DIRECTORY}"))?;
            // Whoever had it before us may have removed the directory that we opened.
            let ours = lock.metadata().map(|data| data.ino()).ok();
            if fs::metadata(DIRECTORY).map(|data| data.ino()).ok() == ours {
                return Ok(Self { _lock: lock });
            }
        }
    }

    /// Removes the directory too, if nobody else keeps anything in it.
    fn leave_nothing(self) {
        drop(fs::remove_dir(DIRECTORY));
    }
}

fn make() -> Result<()> {
    refuse_strangers()?;
    remove()?;
    let hosts = Namespace::new(NAMESPACE.into())?;
    Topology::new(vec![None, Some(NAMESPACE.into())], Shape::default())
        .apply()
        .and_then(|()| services::start_process(NAMESPACE))
        .inspect_err(|_| drop(ip_batch(None, &[format!("link delete {INTERFACE}")])))?;
    hosts.keep();
    Ok(())
}

/// Nothing that we did not make is ever changed or removed.
fn refuse_strangers() -> Result<()> {
    if let Some(interface) = interface()? {
        let mac = interface["address"].as_str().unwrap_or("none");
        ensure!(
            mac == OWN_MAC,
            "there is an interface {INTERFACE} that is not the lab's (MAC address {mac}, the \
             lab's has {OWN_MAC}). If nobody needs it, remove it: ip link delete {INTERFACE}"
        );
    }
    for prefix in routed() {
        let found = route(None, prefix, "main")?;
        ensure!(
            !is_nonempty(&found) || leads_into_lab(&found),
            "this machine has a route to {prefix} already, which the lab would need: {}. If nobody \
             needs it, remove it: ip route delete {prefix}",
            found[0]
        );
    }
    Ok(())
}

/// Removes whatever is there of the lab.
fn remove() -> Result<()> {
    if let Some(found) = interface()?
        && found["address"] == OWN_MAC
    {
        // The namespace would take it along, but some time later: a new lab may come at once.
        let deleted = ip_batch(None, &[format!("link delete {INTERFACE}")]);
        if interface()?.is_some() {
            deleted?;
        }
    }
    if Namespace::exists(NAMESPACE) {
        drop(Namespace::adopt(NAMESPACE.into()));
        ensure!(
            !Namespace::exists(NAMESPACE),
            "cannot remove the network namespace {NAMESPACE}"
        );
    }
    remove_record()
}

/// Every prefix that the lab's interface leads to through the gateway.
fn routed() -> impl Iterator<Item = &'static str> {
    let dead_ends = DEAD_ENDS.iter().flat_map(|end| [end.ipv4, end.ipv6]);
    [HOSTS_IPV4, HOSTS_IPV6].into_iter().chain(dead_ends)
}

fn interface() -> Result<Option<Value>> {
    // `ip link show dev X` fails for an absent interface, and for much else: look for it instead.
    let all = ip_json(None, "link show")?;
    let found = all
        .as_array()
        .into_iter()
        .flatten()
        .find(|link| link["ifname"] == INTERFACE);
    Ok(found.cloned())
}

fn route(namespace: Option<&str>, prefix: &str, table: &str) -> Result<Value> {
    let family = if prefix.contains(':') { "-6" } else { "-4" };
    ip_json(
        namespace,
        &format!("{family} route show table {table} exact {prefix}"),
    )
}

fn is_nonempty(list: &Value) -> bool {
    list.as_array().is_some_and(|list| !list.is_empty())
}

fn leads_into_lab(routes: &Value) -> bool {
    let ours = |route: &Value| {
        route["dev"] == INTERFACE && GATEWAY.iter().any(|gateway| route["gateway"] == *gateway)
    };
    is_nonempty(routes) && routes.as_array().into_iter().flatten().all(ours)
}

fn has_addresses(links: &Value, expected: [&str; 2]) -> bool {
    let infos: Vec<&Value> = links
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|link| link["addr_info"].as_array().into_iter().flatten())
        .collect();
    expected
        .iter()
        .all(|address| infos.iter().any(|info| info["local"] == *address))
}

fn has_neighbours(list: &Value) -> bool {
    let known = |address: &&str| {
        list.as_array()
            .into_iter()
            .flatten()
            .any(|neighbour| neighbour["dst"] == **address)
    };
    GATEWAY.iter().all(known)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_a_route_through_our_gateway_is_ours() {
        let check = |routes: Value, expected: bool| {
            assert_eq!(leads_into_lab(&routes), expected, "{routes}");
        };
        check(
            json!([{"dst": HOSTS_IPV4, "gateway": "198.19.0.2", "dev": "pinger0"}]),
            true,
        );
        check(
            json!([{"dst": HOSTS_IPV4, "gateway": "10.0.0.1", "dev": "tun0"}]),
            false,
        );
        check(json!([{"dst": HOSTS_IPV4, "dev": "pinger0"}]), false);
        check(json!([]), false);
    }
}
