//! Each setting's value: what is allowed, said once for the command line and the config file.
//!
//! In: the text of one value. Out: the checked value, or the [`Mistake`] that names what is
//! allowed. The limits are public so that help texts and tests can name them.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use pinger_ebpf::layout::PAYLOAD_MAX;

use super::duration::{self, NotADuration, show};
use super::{Family, Format, StoreChoice};
use crate::destination::{self, ID_GIVEN_MAX, ProtocolName};
use crate::mistake::{Mistake, grouped, nearest};

/// Interval when none is given.
pub const INTERVAL_DEFAULT_NS: u64 = 1_000_000_000;
/// From 10 us: below it one sender thread cannot keep a single destination's pace. To a day.
pub const INTERVAL_NS: RangeInclusive<u64> = 10_000..=86_400_000_000_000;
/// Timeout when none is given and the interval does not demand a shorter one.
pub const TIMEOUT_DEFAULT_NS: u64 = 1_000_000_000;
/// To 15 minutes: the flight table keeps round trips of up to 2^40 ns, which is 18 minutes.
pub const TIMEOUT_NS: RangeInclusive<u64> = 10_000..=900_000_000_000;
/// The most probes in flight to one destination: a sequence has 16 bits on the wire, of which the
/// flight table uses half, so that an old answer and a new one differ.
pub const IN_FLIGHT_MAX: u64 = 32_000;
/// Payload bytes when none are given: as every ping since the first.
pub const SIZE_DEFAULT: u16 = 56;
/// Payload bytes: up to what the kernel program's buffer holds.
pub const SIZE: RangeInclusive<u64> = 0..=PAYLOAD_MAX as u64;
/// Time to live when none is given: the kernel's own default.
pub const TTL_DEFAULT: u8 = 64;
/// Times to live: a probe of 0 would not leave.
pub const TTL: RangeInclusive<u64> = 1..=255;
/// Types of service, traffic classes: a byte.
pub const TOS: RangeInclusive<u64> = 0..=255;
/// Codepoints of differentiated services: the upper 6 bits of that byte, RFC 2474.
pub const DSCP: RangeInclusive<u64> = 0..=63;
/// Ports.
pub const PORT: RangeInclusive<u64> = 1..=u16::MAX as u64;
/// Probes sent in one go unless flooding: each is stamped and kicked by itself.
pub const BATCH_DEFAULT: u32 = 1;
/// Probes sent in one go when flooding: more send no faster, but make round trips longer, whose
/// median is 23 us with 8 and 84 us with 32.
pub const BATCH_FLOOD: u32 = 8;
/// Probes sent in one go: beyond 256 only the stamps get worse.
pub const BATCH: RangeInclusive<u64> = 1..=256;
/// Probes to each destination.
pub const COUNT: RangeInclusive<u64> = 1..=u32::MAX as u64;
/// Length of a run: to ten years, so that sums of nanoseconds stay far from 2^64.
pub const DURATION_NS: RangeInclusive<u64> = 1_000_000..=3_650 * 86_400_000_000_000;
/// Numbers of CPUs: what the kernel can be built for.
pub const CPU: RangeInclusive<u64> = 0..=8191;
/// Ids given to destinations; above them are those that pinger makes itself.
pub const ID: RangeInclusive<u64> = 1..=ID_GIVEN_MAX;
/// Where the embedded store keeps its files, and results wait, when nobody says.
pub const DATA_DIR_DEFAULT: &str = "/var/lib/pinger";

/// Longest name of a network interface: `IFNAMSIZ` of the kernel less the closing zero.
const INTERFACE_LEN_MAX: usize = 15;

/// Time between two probes to one destination.
pub(crate) fn interval(text: &str) -> Result<u64, Mistake> {
    time(text, INTERVAL_NS, "100ms")
}

/// How long an answer is awaited.
pub(crate) fn timeout(text: &str) -> Result<u64, Mistake> {
    time(text, TIMEOUT_NS, "500ms")
}

/// Length of a run.
pub(crate) fn duration(text: &str) -> Result<Duration, Mistake> {
    time(text, DURATION_NS, "10m").map(Duration::from_nanos)
}

/// Payload bytes.
pub(crate) fn size(text: &str) -> Result<u16, Mistake> {
    number(text, SIZE, "bytes").map(|size| size as u16)
}

/// Time to live or hop limit.
pub(crate) fn ttl(text: &str) -> Result<u8, Mistake> {
    number(text, TTL, "hops").map(|ttl| ttl as u8)
}

/// Probes to each destination.
pub(crate) fn count(text: &str) -> Result<u64, Mistake> {
    number(text, COUNT, "probes")
}

/// Probes sent in one go.
pub(crate) fn batch(text: &str) -> Result<u32, Mistake> {
    number(text, BATCH, "probes").map(|batch| batch as u32)
}

/// A CPU by its number.
pub(crate) fn cpu(text: &str) -> Result<usize, Mistake> {
    number(text, CPU, "").map(|cpu| cpu as usize)
}

/// A port.
pub(crate) fn port(text: &str) -> Result<u16, Mistake> {
    number(text, PORT, "").map(|port| port as u16)
}

/// A protocol by its name.
pub(crate) fn protocol(text: &str) -> Result<ProtocolName, Mistake> {
    let words = ProtocolName::WORDS.map(|(word, _)| word);
    ProtocolName::from_word(text).ok_or_else(|| choice(text, &words, ""))
}

/// Type of service or traffic class, the whole byte.
pub(crate) fn tos(text: &str) -> Result<u8, Mistake> {
    number(text, TOS, "").map(|tos| tos as u8)
}

/// Codepoint of differentiated services, as the byte that holds it.
pub(crate) fn dscp(text: &str) -> Result<u8, Mistake> {
    number(text, DSCP, "").map(|dscp| (dscp as u8) << 2)
}

/// What a payload repeats, literally.
pub(crate) fn data(text: &str) -> Result<Arc<[u8]>, Mistake> {
    payload(text.as_bytes())
}

/// What a payload repeats, as pairs of hexadecimal digits; blanks between them are skipped.
pub(crate) fn data_hex(text: &str) -> Result<Arc<[u8]>, Mistake> {
    let digits: Option<Vec<u8>> = text
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| c.to_digit(16).map(|digit| digit as u8))
        .collect();
    match digits {
        Some(digits) if digits.len() % 2 == 0 => {
            let bytes: Vec<u8> = digits
                .chunks(2)
                .map(|pair| pair[0] << 4 | pair[1])
                .collect();
            payload(&bytes)
        }
        _ => Err(Mistake::new(
            format!("{text:?} is not pairs of hexadecimal digits"),
            "Write two digits a byte, for example \"00 ff 7e\".",
        )),
    }
}

fn payload(bytes: &[u8]) -> Result<Arc<[u8]>, Mistake> {
    let what = match bytes.len() {
        0 => "there is no data in it",
        1..=PAYLOAD_MAX => return Ok(bytes.into()),
        _ => "the data is too long",
    };
    let max = grouped(PAYLOAD_MAX as u128);
    Err(Mistake::new(
        what,
        format!("Allowed: 1 to {max} bytes. Without data, a pattern of pinger's own is sent."),
    ))
}

/// Where probes come from: an address, or an interface that has one.
pub(crate) fn from(text: &str) -> Result<destination::From, Mistake> {
    let wrong = |why: &str| {
        Mistake::new(
            format!("{text:?} {why}"),
            "Name an address of this host, or an interface: `ip -brief address` lists both.",
        )
    };
    match text.parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(address) if address.is_multicast() || address.is_unspecified() => {
            Err(wrong("is no address of a single host"))
        }
        Ok(address) => Ok(destination::From::Address(address)),
        Err(_) => interface(text)
            .map(destination::From::Interface)
            .map_err(|_| wrong("is neither an address nor the name of an interface")),
    }
}

/// One of the source's numbers.
pub(crate) fn source_number(text: &str) -> Result<u32, Mistake> {
    number(text, 0..=u64::from(u32::MAX), "").map(|number| number as u32)
}

/// The id that a person gives to a destination.
pub(crate) fn id(text: &str) -> Result<u64, Mistake> {
    number(text, ID, "")
}

/// The name of a network interface.
pub(crate) fn interface(text: &str) -> Result<String, Mistake> {
    let unfit = |b: u8| b == b'/' || b == b':' || b.is_ascii_whitespace() || b == 0;
    if text.parse::<f64>().is_ok() || duration::parse(text).is_ok() {
        // Other pings take the interval by -i.
        return Err(Mistake::new(
            format!("{text:?} looks like a time, but the interface is asked for here"),
            "The interval is --interval, with a unit: --interval 200ms",
        ));
    }
    if text.is_empty() || text.len() > INTERFACE_LEN_MAX || text.bytes().any(unfit) {
        return Err(Mistake::new(
            format!("{text:?} cannot be the name of a network interface"),
            "`ip -brief link` lists the interfaces of this host, for example eth0.",
        ));
    }
    Ok(text.to_owned())
}

/// Where results go.
pub(crate) fn store(text: &str) -> Result<StoreChoice, Mistake> {
    match text {
        "embedded" => return Ok(StoreChoice::Embedded),
        "none" => return Ok(StoreChoice::None),
        _ => {}
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(choice(
            text,
            &["embedded", "none"],
            " or a URL such as http://clickhouse:8123",
        ));
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    if !matches!(scheme, "http" | "https") || host.is_empty() || host.starts_with(':') {
        return Err(Mistake::new(
            format!("{scheme}://… is not the URL of a ClickHouse server"),
            "pinger speaks ClickHouse's HTTP interface: http://user@host:8123/database\n\
             (8123 is its usual port, 8443 with https).",
        ));
    }
    if user.contains(':') {
        // Not repeated here: the message may end in a log.
        return Err(Mistake::new(
            "the URL holds a password, which everybody on this host could read",
            "Leave it out of the URL. Put it into the environment as PINGER_STORE_PASSWORD,\n\
             or into a file named by --store-password-file (in [store]: password_file).",
        ));
    }
    Ok(StoreChoice::Url(text.to_owned()))
}

/// How a run is shown.
pub(crate) fn format(text: &str) -> Result<Format, Mistake> {
    match text {
        "live" => Ok(Format::Live),
        "plain" => Ok(Format::Plain),
        "json" => Ok(Format::Json),
        _ => Err(choice(text, &["live", "plain", "json"], "")),
    }
}

/// Which addresses of host names are wanted.
pub(crate) fn family(text: &str) -> Result<Family, Mistake> {
    match text {
        "ipv4" => Ok(Family::Ipv4),
        "ipv6" => Ok(Family::Ipv6),
        _ => Err(choice(text, &["ipv4", "ipv6"], "")),
    }
}

pub(super) fn choice(found: &str, allowed: &[&str], further: &str) -> Mistake {
    let guess = nearest(found, allowed)
        .map_or_else(String::new, |nearest| format!("Did you mean {nearest}? "));
    Mistake::new(
        format!("{found:?} is not a choice here"),
        format!("{guess}Allowed: {}{further}.", allowed.join(", ")),
    )
}

pub(super) fn time(
    text: &str,
    range_ns: RangeInclusive<u64>,
    example: &str,
) -> Result<u64, Mistake> {
    let allowed = format!(
        "Write a number and its unit (us, ms, s, m, h, d), for example {example};\n\
         from {} to {}.",
        show(*range_ns.start()),
        show(*range_ns.end())
    );
    let what = match duration::parse(text) {
        Ok(ns) if range_ns.contains(&ns) => return Ok(ns),
        Ok(ns) if ns < *range_ns.start() => format!("{text:?} is too short"),
        Ok(_) | Err(NotADuration::TooLong) => format!("{text:?} is too long"),
        Err(NotADuration::NoUnit) => format!("{text:?} has no unit"),
        Err(NotADuration::Malformed) => format!("{text:?} is not a duration"),
    };
    Err(Mistake::new(what, allowed))
}

fn number(text: &str, range: RangeInclusive<u64>, unit: &str) -> Result<u64, Mistake> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let what = match text.parse::<u64>() {
        Ok(number) if digits && range.contains(&number) => return Ok(number),
        _ if !digits => format!("{text:?} is not a whole number"),
        Ok(number) if number < *range.start() => format!("{text} is too small"),
        _ => format!("{text} is too large"),
    };
    let unit = if unit.is_empty() {
        String::new()
    } else {
        format!(" {unit}")
    };
    let (first, last) = (u128::from(*range.start()), u128::from(*range.end()));
    Err(Mistake::new(
        what,
        format!("Allowed: {} to {}{unit}.", grouped(first), grouped(last)),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused<T: std::fmt::Debug>(result: Result<T, Mistake>, what: &str, advice: &str) {
        let mistake = result.unwrap_err();
        assert!(mistake.what.contains(what), "{mistake}");
        assert!(mistake.advice.contains(advice), "{mistake}");
    }

    #[test]
    fn times_stay_within_their_range() {
        assert_eq!(interval("10us"), Ok(10_000));
        assert_eq!(interval("1d"), Ok(86_400_000_000_000));
        assert_eq!(timeout("15m"), Ok(900_000_000_000));
        assert_eq!(duration("1h"), Ok(Duration::from_secs(3_600)));
        refused(interval("9.999us"), "too short", "from 10us to 1d");
        refused(interval("1d1s"), "too long", "from 10us to 1d");
        refused(interval("5"), "has no unit", "for example 100ms");
        refused(interval("fast"), "not a duration", "us, ms, s");
        refused(timeout("16m"), "too long", "from 10us to 15m");
        refused(duration("999999999d"), "too long", "3650d");
        refused(duration("0s"), "too short", "from 1ms");
    }

    #[test]
    fn numbers_stay_within_their_range() {
        assert_eq!((size("0"), size("3456")), (Ok(0), Ok(3456)));
        assert_eq!((ttl("1"), ttl("255")), (Ok(1), Ok(255)));
        assert_eq!((batch("1"), batch("256")), (Ok(1), Ok(256)));
        assert_eq!(id("9223372036854775807"), Ok(ID_GIVEN_MAX));
        refused(size("3457"), "3457 is too large", "0 to 3,456 bytes");
        refused(ttl("0"), "0 is too small", "1 to 255 hops");
        refused(ttl("-1"), "not a whole number", "1 to 255");
        refused(count("1.5"), "not a whole number", "probes");
        refused(count("+5"), "not a whole number", "probes");
        refused(port(""), "\"\" is not a whole number", "1 to 65,535");
        refused(id("9223372036854775808"), "too large", "1 to");
        refused(id("99999999999999999999"), "too large", "1 to");
    }

    #[test]
    fn stores() {
        assert_eq!(store("embedded"), Ok(StoreChoice::Embedded));
        assert_eq!(store("none"), Ok(StoreChoice::None));
        for url in [
            "http://db:8123",
            "https://prober@db.example:8443/net?x=1",
            "http://[::1]:8123",
        ] {
            assert_eq!(store(url), Ok(StoreChoice::Url(url.to_owned())));
        }
        refused(store("embeded"), "not a choice", "Did you mean embedded?");
        refused(store("db:8123"), "not a choice", "http://clickhouse:8123");
        refused(store("tcp://db:9000"), "not the URL", "HTTP interface");
        refused(store("http://"), "not the URL", "HTTP interface");
        refused(store("http://:8123"), "not the URL", "HTTP interface");
        let mistake = store("http://me:secret@db:8123").unwrap_err();
        assert!(!mistake.to_string().contains("secret"), "{mistake}");
        refused(
            Err::<(), _>(mistake),
            "holds a password",
            "PINGER_STORE_PASSWORD",
        );
    }

    #[test]
    fn interfaces() {
        for name in ["eth0", "enp3s0f1np1", "br-1234.100", "wg_x"] {
            assert_eq!(interface(name), Ok(name.to_owned()));
        }
        refused(interface("0.2"), "looks like a time", "--interval 200ms");
        refused(interface("10ms"), "looks like a time", "--interval");
        refused(interface(""), "cannot be the name", "ip -brief link");
        refused(
            interface("a-name-that-is-too-long"),
            "cannot be the name",
            "ip -brief link",
        );
        refused(interface("eth0:1"), "cannot be the name", "ip -brief link");
    }

    #[test]
    fn data_is_text_or_digits() {
        assert_eq!(data("a b").as_deref(), Ok(&b"a b"[..]));
        assert_eq!(data_hex("00fF 7e").as_deref(), Ok(&[0, 0xff, 0x7e][..]));
        assert_eq!(
            data(&"x".repeat(PAYLOAD_MAX)).map(|d| d.len()),
            Ok(PAYLOAD_MAX)
        );
        refused(data(""), "no data", "1 to 3,456 bytes");
        refused(data_hex(" "), "no data", "1 to 3,456 bytes");
        refused(
            data(&"x".repeat(PAYLOAD_MAX + 1)),
            "too long",
            "1 to 3,456 bytes",
        );
        for text in ["0", "0x00", "00 f", "gg", "+1"] {
            refused(data_hex(text), "not pairs", "two digits a byte");
        }
    }

    #[test]
    fn classes_are_a_byte_or_its_upper_bits() {
        assert_eq!((tos("0"), tos("255")), (Ok(0), Ok(255)));
        assert_eq!((dscp("46"), dscp("63")), (Ok(0xb8), Ok(0xfc)));
        refused(tos("256"), "256 is too large", "0 to 255");
        refused(dscp("64"), "64 is too large", "0 to 63");
    }

    #[test]
    fn probes_come_from_an_address_or_an_interface() {
        use destination::From::{Address, Interface};
        assert_eq!(from("192.0.2.1"), Ok(Address([192, 0, 2, 1].into())));
        assert_eq!(from("::ffff:192.0.2.1"), Ok(Address([192, 0, 2, 1].into())));
        assert_eq!(from("eth0"), Ok(Interface("eth0".into())));
        refused(
            from("::"),
            "no address of a single host",
            "ip -brief address",
        );
        refused(from("224.0.0.1"), "no address of a single", "ip -brief");
        refused(from("192.0.2.1/24"), "is neither an address", "ip -brief");
    }

    #[test]
    fn choices() {
        assert_eq!(protocol("UDP"), Ok(ProtocolName::Udp));
        refused(
            protocol("upd"),
            "not a choice",
            "Did you mean udp? Allowed: icmp, udp, tcp.",
        );
        assert_eq!(format("live"), Ok(Format::Live));
        assert_eq!(family("ipv6"), Ok(Family::Ipv6));
        refused(
            format("jsn"),
            "not a choice",
            "Did you mean json? Allowed: live, plain, json.",
        );
        refused(format("xml"), "\"xml\"", "Allowed: live, plain, json.");
        refused(family("6"), "\"6\"", "Allowed: ipv4, ipv6.");
    }
}
