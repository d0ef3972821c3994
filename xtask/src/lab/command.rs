//! `cargo xtask lab up|status|down`: the machine's lab by hand.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};

use super::addresses::{
    BLACK_HOLE, DeadEnd, HOSTS_IPV4, HOSTS_IPV6, INTERFACE, NOWHERE, PROHIBITED, UNREACHABLE,
};
use super::machine::{self, GATEWAY, NAMESPACE, OWN, Raised, State};
use super::record::{Owner, Record};
use super::services::{ECHO_PORT, TCP_PORTS};
use crate::process;
use crate::progress::{say, spent};
use crate::setup::{self, plan};

/// The exit code of `status` where there is no working lab.
pub const DOWN: i32 = 3;

/// Makes or repairs the lab and keeps it.
///
/// # Errors
/// As [`machine::up`].
pub fn up() -> Result<()> {
    get_ip()?;
    match machine::up()? {
        Raised::Already => say("the lab is up already"),
        Raised::Made => say("the lab is up"),
        Raised::TakenOver(pid) => {
            say(&format!(
                "the lab of the run {pid} is now kept: it stays when that run ends"
            ));
        }
        Raised::Repaired(faults) => say(&format!("the lab is repaired: {}", faults.join("; "))),
    }
    print(&report(&machine::look()?));
    Ok(())
}

/// Removes the lab.
///
/// # Errors
/// As [`machine::down`].
pub fn down() -> Result<()> {
    get_ip()?;
    let there_was = machine::down()?;
    say(if there_was {
        "the lab is removed"
    } else {
        "there is no lab; nothing to remove"
    });
    Ok(())
}

/// Shows the lab; gives the exit code, [`DOWN`] if it is not up.
///
/// # Errors
/// As [`machine::look`].
pub fn status() -> Result<i32> {
    if process::find("ip").is_none() {
        bail!("`ip` is missing, so there is no lab either: `cargo xtask lab up` installs it");
    }
    let state = machine::look()?;
    print(&report(&state));
    Ok(if state.is_up() { 0 } else { DOWN })
}

fn get_ip() -> Result<()> {
    let needs = plan::Needs {
        build: false,
        lab: true,
        engine: plan::Engine::None,
        fping: false,
    };
    setup::ensure(needs).map(drop)
}

/// The report is what was asked for, so it goes to stdout; a reader that went away is no error.
fn print(report: &str) {
    drop(io::stdout().write_all(report.as_bytes()));
}

/// What a person wants to know about the lab.
fn report(state: &State) -> String {
    let mut text = String::new();
    let mut line = |words: String| {
        text += &words;
        text.push('\n');
    };
    if state.absent {
        line("lab         down".into());
        line("to make it  cargo xtask lab up   (cargo xtask run makes one for itself)".into());
        return text;
    }
    let condition = if state.is_up() { "up" } else { "broken" };
    line(format!("lab         {condition}"));
    for fault in &state.faults {
        line(format!("  fault     {fault}"));
    }
    line(format!("owner       {}", owner(state.record.as_ref())));
    line(format!(
        "interface   {INTERFACE} with {} and {}, in the root namespace",
        OWN[0], OWN[1]
    ));
    line(format!(
        "namespace   {NAMESPACE}: its kernel is the gateway and all of the hosts"
    ));
    line(format!("IPv4 hosts  {HOSTS_IPV4} via {}", GATEWAY[0]));
    line(format!("IPv6 hosts  {HOSTS_IPV6} via {}", GATEWAY[1]));
    let [http, https] = TCP_PORTS;
    line(format!(
        "services    UDP echo at port {ECHO_PORT}, TCP at {http} and {https}; other ports are closed"
    ));
    for (what, dead_end) in [
        ("unreachable", UNREACHABLE),
        ("prohibited", PROHIBITED),
        ("no route", NOWHERE),
        ("black hole", BLACK_HOLE),
    ] {
        let DeadEnd { ipv4, ipv6, .. } = dead_end;
        line(format!("{what:<11} {ipv4} and {ipv6}"));
    }
    if state.is_up() {
        line("try".into());
        line(format!(
            "  cargo xtask run -- -i {INTERFACE} 198.18.0.0/24 2001:2:0:1::1"
        ));
        line("  fping -c 3 198.18.0.1 198.18.255.254 2001:2:0:1::1".into());
        line(format!(
            "  ip netns exec {NAMESPACE} tcpdump -ni far    (what the hosts see)"
        ));
        line("to remove   cargo xtask lab down".into());
    } else {
        line("to repair   cargo xtask lab up".into());
    }
    text
}

fn owner(record: Option<&Record>) -> String {
    let Some(record) = record else {
        return "unknown".into();
    };
    let mut words = match record.owner {
        Owner::Kept => "kept until `cargo xtask lab down`".to_owned(),
        Owner::Run { pid, .. } if record.owner.is_alive() => {
            format!("the run of process {pid}, which removes it at its end")
        }
        Owner::Run { pid, .. } => format!(
            "a run that is gone (process {pid} was killed?); the next run or `lab down` removes it"
        ),
    };
    let age = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|now| now.checked_sub(std::time::Duration::from_secs(record.made)));
    if let Some(age) = age {
        let whole = std::time::Duration::from_secs(age.as_secs().max(1));
        write!(words, " (made {} ago)", spent(whole)).unwrap_or_default();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_says_what_there_is_and_what_to_do() {
        let record = Some(Record {
            owner: Owner::Kept,
            made: 0,
        });
        let check = |state: &State, expected: &[&str]| {
            let text = report(state);
            for words in expected {
                assert!(text.contains(words), "{words} is missing in:\n{text}");
            }
        };
        let up = State {
            absent: false,
            faults: Vec::new(),
            record,
        };
        let names = [
            INTERFACE,
            NAMESPACE,
            HOSTS_IPV4,
            HOSTS_IPV6,
            "fping",
            "lab down",
            "port 7",
            UNREACHABLE.ipv4,
            BLACK_HOLE.ipv6,
        ];
        check(&up, &names);
        let broken = State {
            faults: vec!["the interface is down".into()],
            ..up.clone()
        };
        check(
            &broken,
            &["broken", "the interface is down", "cargo xtask lab up"],
        );
        check(
            &State { absent: true, ..up },
            &["down", "cargo xtask lab up"],
        );
        let dead = Record {
            owner: Owner::Run {
                pid: u32::MAX,
                started: 1,
            },
            made: 0,
        };
        assert!(owner(Some(&dead)).contains("gone"));
    }
}
