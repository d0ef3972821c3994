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
use pinger_ebpf::identity::Prefix;
use pinger_ebpf::layout::{
    self, BPF_F_MMAPABLE, Counter, Event, Flow, FlowKey, Payload, Settings, Slot, SlotState,
};
use pinger_ebpf::matching::{Context, Match, SlotCell};
use pinger_ebpf::parse::{self, Answer, Cursor, Ip, Refusal};
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

/// Entry point, named by [`layout::PROGRAM`]. Does what [`parse::parse`] does, in parts.
#[xdp]
fn pinger_xdp(ctx: XdpContext) -> u32 {
    let now_ns = now();
    let frame = Frame::of(&ctx);
    let ip = match parse::headers(&frame) {
        Ok(ip) => ip,
        Err(refusal) => return pass(refusal),
    };
    let head = ip.at as u32 | u32::from(ip.protocol) << 8 | u32::from(ip.is_v6) << 16;
    let [transport_at, len] = [ip.transport_at as u32, ip.len as u32];
    if parse::is_error(&frame, &ip) {
        pinger_error(ctx.ctx, head, transport_at, len, now_ns)
    } else {
        pinger_direct(ctx.ctx, head, transport_at, len, now_ns)
    }
}

/// Longer than the headers of any packet in one page: a bound that the verifier can see.
const HEADERS_MAX: u32 = 8192;

/// An [`Ip`] as numbers, which are all that a global function takes.
#[inline(always)]
fn ip_of(head: u32, transport_at: u32, len: u32) -> Ip {
    Ip {
        at: (head & 0xff) as usize,
        is_v6: head >> 16 != 0,
        protocol: (head >> 8) as u8,
        transport_at: (transport_at % HEADERS_MAX) as usize,
        len: (len & 0xffff) as usize,
    }
}

/// What a destination itself answers. A global function, which the verifier checks once for any
/// arguments, and not for each way through the headers before; and the stack of the two kinds of
/// answers is never taken at once, which would be more than there is.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn pinger_direct(
    ctx: *mut xdp_md,
    head: u32,
    transport_at: u32,
    len: u32,
    now_ns: u64,
) -> u32 {
    let ctx = XdpContext::new(ctx);
    let frame = Frame::of(&ctx);
    let answer = parse::direct(&frame, &ip_of(head, transport_at, len));
    handle(&ctx, &frame, answer, now_ns)
}

/// What a router says of a probe. A global function as [`pinger_direct`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn pinger_error(
    ctx: *mut xdp_md,
    head: u32,
    transport_at: u32,
    len: u32,
    now_ns: u64,
) -> u32 {
    let ctx = XdpContext::new(ctx);
    let frame = Frame::of(&ctx);
    let answer = parse::error(&frame, &ip_of(head, transport_at, len));
    handle(&ctx, &frame, answer, now_ns)
}

/// What to do with a packet that may be an answer.
#[inline(always)]
fn handle(ctx: &XdpContext, frame: &Frame, answer: Result<Answer, Refusal>, now_ns: u64) -> u32 {
    match answer {
        Ok(answer) => settle(ctx, frame, &answer, now_ns).unwrap_or(XDP_PASS),
        Err(refusal) => pass(refusal),
    }
}

/// What is no answer passes.
#[inline(always)]
fn pass(refusal: Refusal) -> u32 {
    if refusal == Refusal::Malformed {
        count(Counter::Malformed);
    }
    XDP_PASS
}

/// What to do with an answer; `None` if it belongs to no flow of ours.
#[inline(always)]
fn settle(ctx: &XdpContext, frame: &Frame, answer: &Answer, now_ns: u64) -> Option<u32> {
    let settings = SETTINGS.load();
    // SAFETY: user space changes no flow while probes to it are in flight.
    let flow = unsafe { FLOWS.get(answer.key) }?;
    let Some(sequence) = answer.sequence(frame, flow) else {
        return Some(forged(answer, &settings));
    };
    let slot = Cell(SLOTS.get_ptr_mut(sequence.slot_index(flow))?);
    let entry = EVENTS.reserve::<Event>(0);
    let room = entry.is_some();
    let context = Context {
        flow,
        settings: &settings,
        now_ns,
        room,
    };
    let matched = answer.claim(frame, sequence, &slot, context);
    if let Some(mut entry) = entry {
        if let Match::Told(mut event) = matched {
            if settings.verify != 0 && answer.has_payload() {
                event.mismatch_at = compare(ctx, answer, flow);
            }
            entry.write(event);
            entry.submit(0);
        } else {
            entry.discard(0);
        }
    }
    if matched == Match::Forged {
        return Some(forged(answer, &settings));
    }
    if settings.log != 0 {
        log(answer, &matched);
    }
    count(Counter::Ours);
    if !room {
        count(Counter::RingDropped);
    }
    Some(XDP_DROP)
}

/// Somebody's who knows a flow of ours and no more.
#[inline(always)]
fn forged(answer: &Answer, settings: &Settings) -> u32 {
    if settings.log != 0 {
        log(answer, &Match::Forged);
    }
    count(Counter::Forged);
    XDP_PASS
}

/// Compares the payload of an answer with what the flow's probes carry.
#[inline(always)]
fn compare(ctx: &XdpContext, answer: &Answer, flow: &Flow) -> u16 {
    let own_len = Prefix::of(answer.key.protocol, usize::from(flow.payload_len)).len;
    let lengths = (answer.payload_len as u32) << 16 | u32::from(flow.payload_len);
    pinger_compare(
        ctx.ctx,
        answer.payload_at as u32,
        lengths,
        own_len as u32,
        u32::from(flow.payload),
    ) as u16
}

/// A global function, which the verifier checks once for any arguments: received and sent length
/// in the upper and lower half of `lengths`, the payload by its index.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn pinger_compare(
    ctx: *mut xdp_md,
    at: u32,
    lengths: u32,
    own_len: u32,
    payload: u32,
) -> u32 {
    let frame = Frame::of(&XdpContext::new(ctx));
    let received = Received {
        at: (at % HEADERS_MAX) as usize,
        len: (lengths >> 16) as usize,
        sent_len: (lengths & 0xffff) as usize,
        own_len: (own_len & 15) as usize,
    };
    PAYLOADS.get(payload).map_or(0, |payload| {
        u32::from(received.first_difference(&frame, payload))
    })
}

/// One line per packet that was matched. The verifier removes the call when logging is off, because
/// the settings are read-only by then.
#[inline(always)]
fn log(answer: &Answer, matched: &Match) {
    let what = match matched {
        Match::Forged => 0,
        Match::Told(event) => u32::from(event.kind),
        Match::Untold => u32::MAX,
    };
    let identifier = u32::from(answer.key.identifier);
    pinger_log(answer.kind as u32, identifier, what);
}

/// A global function, which the verifier checks once and not in every state that leads here.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn pinger_log(kind: u32, identifier: u32, what: u32) -> u32 {
    let what = match what {
        0 => "forged",
        1 => "reply",
        2 => "duplicate",
        3 => "late",
        4 => "stale",
        _ => "untold",
    };
    debug!((), "answer of kind {} to {}: {}", kind, identifier, what);
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

impl Frame {
    #[inline(always)]
    fn of(ctx: &XdpContext) -> Self {
        Self {
            start: ctx.data(),
            end: ctx.data_end(),
        }
    }
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
