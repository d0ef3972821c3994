//! The XDP program: glue between the hook, the maps and the shared parser and matching.
//!
//! What answers one of our probes is told to user space and dropped; all else passes untouched.
#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![expect(
    internal_features,
    reason = "the BPF target has no stable compare-exchange yet"
)]

use core::hint::black_box;
use core::intrinsics::{AtomicOrdering, atomic_cxchg};
use core::ptr;

use aya_ebpf::Global;
use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::macros::{map, xdp};
use aya_ebpf::maps::{Array, HashMap, PerCpuArray, RingBuf};
use aya_ebpf::programs::XdpContext;
use aya_log_ebpf::debug;
use pinger_ebpf::layout::{
    self, BPF_F_MMAPABLE, Counter, Event, Flow, FlowKey, Payload, Settings, Slot, SlotState,
};
use pinger_ebpf::matching::{Context, Match, SlotCell};
use pinger_ebpf::parse::{Cursor, EchoReply, Packet, parse};
use pinger_ebpf::payload::Received;

// The loader sets the real sizes.
#[map]
static FLOWS: HashMap<FlowKey, Flow> = HashMap::with_max_entries(1, 0);
#[map]
static SLOTS: Array<Slot> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
static PAYLOADS: Array<Payload> = Array::with_max_entries(1, 0);
#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(4096, 0);
#[map]
static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(layout::COUNTERS, 0);
#[unsafe(no_mangle)]
static SETTINGS: Global<Settings> = Global::new(Settings {
    secret: [0; 2],
    verify: 1,
    log: 0,
});

/// Entry point, named by [`layout::PROGRAM`].
#[xdp]
pub fn pinger_xdp(ctx: XdpContext) -> u32 {
    let now_ns = now();
    let frame = Frame {
        start: ctx.data(),
        end: ctx.data_end(),
    };
    match parse(&frame) {
        Packet::EchoReply(reply) => answer(&ctx, &frame, &reply, now_ns).unwrap_or(XDP_PASS),
        Packet::Malformed => {
            count(Counter::Malformed);
            XDP_PASS
        }
        Packet::NotOurs => XDP_PASS,
    }
}

/// What to do with an echo reply; `None` if it belongs to no flow of ours.
#[inline(always)]
fn answer(ctx: &XdpContext, frame: &Frame, reply: &EchoReply, now_ns: u64) -> Option<u32> {
    let settings = SETTINGS.load();
    // SAFETY: user space changes no flow while probes to it are in flight.
    let flow = unsafe { FLOWS.get(reply.flow_key()) }?;
    let slot = Cell(SLOTS.get_ptr_mut(reply.slot_index(flow))?);
    let entry = EVENTS.reserve::<Event>(0);
    let room = entry.is_some();
    let context = Context {
        flow,
        settings: &settings,
        now_ns,
        room,
    };
    let matched = reply.claim(frame, &slot, context);
    if let Some(mut entry) = entry {
        if let Match::Told(mut event) = matched {
            if settings.verify != 0 {
                event.mismatch_at = compare(ctx, reply, flow);
            }
            entry.write(event);
            entry.submit(0);
        } else {
            entry.discard(0);
        }
    }
    if settings.log != 0 {
        log(ctx, reply, &matched);
    }
    if matched == Match::Forged {
        count(Counter::Forged);
        return Some(XDP_PASS);
    }
    count(Counter::Ours);
    if !room {
        count(Counter::RingDropped);
    }
    Some(XDP_DROP)
}

/// Compares the payload of a reply with what the flow's probes carry.
#[inline(always)]
fn compare(ctx: &XdpContext, reply: &EchoReply, flow: &Flow) -> u16 {
    let lengths = (reply.payload_len as u32) << 16 | u32::from(flow.payload_len);
    pinger_compare(
        ctx.ctx,
        reply.payload_at as u32,
        lengths,
        u32::from(flow.payload),
    ) as u16
}

/// Longer than the headers of any packet in one page: a bound that the verifier can see.
const HEADERS_MAX: u32 = 8192;

/// A global function, which the verifier checks once for any arguments: received and sent length
/// in the upper and lower half of `lengths`, the payload by its index.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn pinger_compare(ctx: *mut xdp_md, at: u32, lengths: u32, payload: u32) -> u32 {
    let ctx = XdpContext::new(ctx);
    let frame = Frame {
        start: ctx.data(),
        end: ctx.data_end(),
    };
    let received = Received {
        at: (at % HEADERS_MAX) as usize,
        len: (lengths >> 16) as usize,
        sent_len: (lengths & 0xffff) as usize,
    };
    PAYLOADS.get(payload).map_or(0, |payload| {
        u32::from(received.first_difference(&frame, payload))
    })
}

/// Tells of one matched packet.
#[inline(always)]
fn log(ctx: &XdpContext, reply: &EchoReply, matched: &Match) {
    let what = match matched {
        Match::Forged => 0,
        Match::Told(_) => 1,
        Match::Untold => 2,
    };
    pinger_log(
        ctx.ctx,
        u32::from(reply.identifier),
        u32::from(reply.sequence),
        what,
    );
}

/// Writes a line. A global function too: each piece of a line is a check of bounds more, and all
/// of them for each way to here would be more than the verifier follows. It removes the call when
/// logging is off, because the settings are read-only by then.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn pinger_log(ctx: *mut xdp_md, identifier: u32, sequence: u32, what: u32) -> u32 {
    let ctx = XdpContext::new(ctx);
    let what = match what {
        0 => "forged",
        1 => "told",
        _ => "untold",
    };
    debug!(
        &ctx,
        "echo reply id {} seq {}: {}", identifier, sequence, what
    );
    0
}

#[inline(always)]
fn now() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_ktime_get_ns() }
}

#[inline(always)]
fn count(counter: Counter) {
    if let Some(count) = COUNTERS.get_ptr_mut(counter as u32) {
        // SAFETY: a live element of a per-CPU array, which nothing else writes on this CPU while
        // an XDP program runs.
        unsafe { *count += 1 };
    }
}

/// A packet in memory that the verifier lets us read up to `end`.
struct Frame {
    start: usize,
    end: usize,
}

impl Cursor for Frame {
    #[inline(always)]
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        // Hidden from the compiler, which would otherwise check the bounds of one pointer and read
        // through another; the verifier sees no connection between the two.
        let at = black_box(self.start + offset);
        if at + N > self.end {
            return None;
        }
        // SAFETY: the bytes lie before `end`; an array of bytes has no alignment.
        Some(unsafe { ptr::read(at as *const [u8; N]) })
    }

    #[inline(always)]
    fn size(&self) -> usize {
        self.end - self.start
    }
}

/// A slot in the flight table.
struct Cell(*mut Slot);

impl SlotCell for Cell {
    #[inline(always)]
    fn tx_ns(&self) -> u64 {
        // SAFETY: a live array element; user space stores it in one piece.
        unsafe { ptr::read_volatile(&raw const (*self.0).tx_ns) }
    }

    #[inline(always)]
    fn state(&self) -> SlotState {
        // SAFETY: as above; an atomic load fails to compile for BPF before LLVM's cpu v4.
        SlotState(unsafe { ptr::read_volatile(&raw const (*self.0).state) })
    }

    #[inline(always)]
    fn compare_exchange(&self, current: SlotState, new: SlotState) -> Result<(), SlotState> {
        // SAFETY: a live, aligned array element, shared with user space through atomics only.
        let (found, swapped) = unsafe {
            atomic_cxchg::<_, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(
                &raw mut (*self.0).state,
                current.0,
                new.0,
            )
        };
        if swapped {
            Ok(())
        } else {
            Err(SlotState(found))
        }
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
