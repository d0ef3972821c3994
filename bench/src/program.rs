//! The table `program`: what the XDP program costs per packet, by BPF_PROG_TEST_RUN.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use pinger::destination::{Destination, FlowIndex, Protocol};
use pinger::flight::Flight;
use pinger::flow::Flows;
use pinger::packet::ETHERNET_LEN;
use pinger::schedule::Schedule;
use pinger::wire::bpf::{Plan, Program};
use pinger::wire::clock;
use pinger_ebpf::cookie::cookie;
use pinger_ebpf::layout::{PROGRAM, Settings};

use crate::bench::Bench;
use crate::measure::{Case, Figure, Row, Table, Unit};

/// How often the kernel runs the program on one packet. Each run tells of an answer, and the ring
/// of events, which nobody reads here, has room for more than so many.
const REPEAT: u32 = 200_000;
/// `XDP_DROP` of `include/uapi/linux/bpf.h`.
const XDP_DROP: u32 = 1;
const SECRET: [u64; 2] = [1, 2];
const HOST: &str = "192.0.2.1";
const SOURCE: &str = "192.0.2.2";
const IDENTIFIER: u16 = 77;

const SIZES: [(u16, &str); 3] = [(56, "56 bytes"), (512, "512 bytes"), (1400, "1,400 bytes")];
const KINDS: [(Protocol, &str); 2] = [(Protocol::Icmp, "ICMP"), (Protocol::Udp, "UDP")];

pub(crate) fn table() -> Table {
    let case =
        |(protocol, kind): (Protocol, &str), (size, bytes): (u16, &str), verify: bool| Case {
            name: name(kind, bytes, verify),
            tool: "pinger",
            time: Duration::from_secs(1),
            runs_max: u32::MAX,
            run: Box::new(move |_: &Bench| run(protocol, size, verify)),
        };
    let mut cases = Vec::new();
    for kind in KINDS {
        for size in SIZES {
            cases.extend([true, false].map(|verify| case(kind, size, verify)));
        }
    }
    Table {
        name: "program",
        about: "What the XDP program takes for one reply of ours, from the packet's first byte to \
            the verdict, its event included: the kernel runs it 200,000 times on the same packet. \
            `compared` means that the payload is compared with what was sent.",
        cases,
        findings,
        page: None,
    }
}

fn name(kind: &str, bytes: &str, verify: bool) -> String {
    format!("{kind}, {bytes}{}", if verify { ", compared" } else { "" })
}

fn run(protocol: Protocol, size: u16, verify: bool) -> Result<Vec<Figure>> {
    let host: IpAddr = HOST.parse()?;
    let destination = Destination {
        protocol,
        port: if protocol.has_port() { 7 } else { 0 },
        size,
        ..Destination::echo(host)
    };
    let schedule = Schedule::new(std::slice::from_ref(&destination), 0, false);
    let flows = Flows::new(vec![destination], vec![IDENTIFIER], SECRET);
    let runs = flows.runs(&schedule);
    let mut program = Program::load(&Plan {
        flows: &flows.table(&runs),
        payloads: flows.payloads(),
        slots: runs.slots(),
        settings: Settings {
            secret: SECRET,
            verify: u32::from(verify),
            log: 0,
        },
    })?;
    let flight = Flight::new(program.slots()?, runs);
    flight.send(FlowIndex(0), 0, clock::now_ns());
    let packet = reply(&flows, protocol)?;
    let xdp: &mut Xdp = program
        .ebpf_mut()
        .program_mut(PROGRAM)
        .context("the object has no program")?
        .try_into()?;
    let options = TestRunOptions {
        data_in: Some(&packet),
        repeat: REPEAT,
        ..TestRunOptions::new()
    };
    let run = xdp.test_run(options)?;
    ensure!(
        run.return_value == XDP_DROP,
        "the program did not know its own packet"
    );
    // The kernel's figure is the mean of all runs, whole nanoseconds.
    Ok(vec![
        Unit::Nanoseconds.count("per reply", run.duration.as_nanos() as u64),
    ])
}

/// The answer of a host that sends back what it got: the probe with its ends swapped.
fn reply(flows: &Flows, protocol: Protocol) -> Result<Vec<u8>> {
    let source: IpAddr = SOURCE.parse()?;
    let frames = flows.frames(|_| source);
    let mut frame = vec![0; frames.len_max()];
    let mut head = [2; ETHERNET_LEN];
    head[12..].copy_from_slice(&pinger::route::ETHERTYPE_IPV4.to_be_bytes());
    frames.write(FlowIndex(0), &head, 0, cookie(SECRET, 0, 0), &mut frame);
    let (ip, transport) = frame[ETHERNET_LEN..].split_at_mut(20);
    let (from, to) = ip[12..].split_at_mut(4);
    from.swap_with_slice(to);
    match protocol {
        Protocol::Udp => {
            let (from, to) = transport[..4].split_at_mut(2);
            from.swap_with_slice(to);
        }
        _ => transport[0] = pinger_ebpf::parse::ICMP_ECHO_REPLY,
    }
    Ok(frame)
}

/// What comparing costs.
fn findings(rows: &[Row]) -> Vec<String> {
    let cost = |kind: &str, bytes: &str, verify| {
        let case = name(kind, bytes, verify);
        rows.iter()
            .find(|row| row.case == case)
            .map(|row| row.median)
    };
    let (_, bytes) = SIZES[SIZES.len() - 1];
    KINDS
        .into_iter()
        .filter_map(|(_, kind)| {
            let more = cost(kind, bytes, true)? - cost(kind, bytes, false)?;
            Some(format!(
                "{kind}: comparing {bytes} takes {more:.0} ns a reply."
            ))
        })
        .collect()
}
