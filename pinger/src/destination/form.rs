//! The forms in which people write destinations: name, address, block, range, each by itself or
//! in a URL that tells protocol and port.
//!
//! In: one word. Out: a host name to look up, or the addresses it stands for. Looks nothing up.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{MAX_DESTINATIONS, ProtocolName};
use crate::mistake::{Mistake, counted, grouped};

/// What one word says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The protocol, if it is a URL.
    pub protocol: Option<ProtocolName>,
    /// The port, if it is a URL that has one; never with ICMP, never 0.
    pub port: Option<u16>,
    /// Where to.
    pub form: Form,
    /// The part of the word that says where to.
    pub host: String,
}

impl Written {
    /// Reads one word: whatever [`Form::parse`] reads, or that as a URL.
    ///
    /// | form | stands for |
    /// |---|---|
    /// | `tcp://example.org:443`, `udp://192.0.2.1:53` | that port of that host |
    /// | `udp://10.0.0.0/24:7`, `tcp://10.0.0.1-10.0.0.9:80` | that port of each host |
    /// | `tcp://[2001:db8::1]:443`, `udp://[2001:db8::/120]:7` | the same, by IPv6 |
    /// | `tcp://example.org` | a port that is told elsewhere |
    /// | `icmp://example.org` | echo requests |
    ///
    /// # Errors
    ///
    /// A [`Mistake`] for anything else.
    pub fn parse(word: &str) -> Result<Self, Mistake> {
        let scheme = word.split_once("://");
        let Some((protocol, rest)) =
            scheme.and_then(|(scheme, rest)| Some((ProtocolName::from_word(scheme)?, rest)))
        else {
            return Ok(Self {
                protocol: None,
                port: None,
                form: Form::parse(word)?,
                host: word.to_owned(),
            });
        };
        let at = |mistake: Mistake| mistake.at(format_args!("{word:?}"));
        let (host, port) = split_port(rest);
        let port = port.map(parse_port).transpose().map_err(at)?;
        if port.is_some() && !protocol.has_port() {
            return Err(Mistake::new(
                format!("{word:?} names a port, and ICMP has none"),
                format!("Leave the port out: icmp://{host}"),
            ));
        }
        let form = Form::parse(host).map_err(at)?;
        Ok(Self {
            protocol: Some(protocol),
            port,
            form,
            host: host.to_owned(),
        })
    }
}

/// What is before and behind the colon that a port follows. Colons within brackets, and those of
/// a bare IPv6 address, are not it.
fn split_port(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((host, port))
            if !port.contains(']')
                && (!host.contains(':') || host.ends_with(']') || host.contains("]/")) =>
        {
            (host, Some(port))
        }
        _ => (text, None),
    }
}

fn parse_port(text: &str) -> Result<u16, Mistake> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    match text.parse::<u16>() {
        Ok(port) if digits && port > 0 => Ok(port),
        _ => Err(Mistake::new(
            format!(
                "the port {text:?} is not a number from 1 to {}",
                grouped(65_535)
            ),
            "A destination with a port is written like tcp://example.org:443 or\n\
             udp://[2001:db8::1]:53.",
        )),
    }
}

/// What one word without protocol and port names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// A host name: its address has to be looked up.
    Host(String),
    /// Addresses, one or more.
    Addresses(Block),
}

/// Consecutive addresses of one family: at least one, at most [`MAX_DESTINATIONS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    first: IpAddr,
    last: IpAddr,
}

impl Form {
    /// Reads one word.
    ///
    /// | form | stands for |
    /// |---|---|
    /// | `example.org` | a host name |
    /// | `192.0.2.1`, `2001:db8::1`, `[2001:db8::1]` | that address |
    /// | `10.0.0.0/24` | the block but its network and broadcast addresses; from /31 on, all |
    /// | `2001:db8::/120` | the block but its subnet-router anycast address; from /127 on, all |
    /// | `10.0.0.1-10.0.0.9` | both ends and all between them |
    ///
    /// Brackets around all of it change nothing.
    ///
    /// # Errors
    ///
    /// A [`Mistake`] for anything else, for addresses that cannot answer an echo by themselves
    /// (multicast, broadcast, unspecified) or that need more than an address (IPv6 link-local),
    /// and for more than [`MAX_DESTINATIONS`] addresses.
    pub fn parse(word: &str) -> Result<Self, Mistake> {
        let whole = word;
        let word = unbracket(word);
        if let Some((address, prefix)) = word.split_once('/')
            && let Ok(address) = unbracket(address).parse()
        {
            return Block::from_prefix(word, address, prefix).map(Self::Addresses);
        }
        if let Some((first, last)) = word.split_once('-')
            && let Ok(first) = unbracket(first).parse()
        {
            return Block::from_range(word, first, last).map(Self::Addresses);
        }
        if let Ok(address) = word.parse::<IpAddr>() {
            let address = address.to_canonical();
            check_address(address)?;
            return Ok(Self::Addresses(Block {
                first: address,
                last: address,
            }));
        }
        if let Some((address, _)) = word.split_once('%')
            && address.parse::<Ipv6Addr>().is_ok()
        {
            return Err(Mistake::new(
                format!("{word:?}: addresses with a scope are not supported yet"),
                "Use the host's global or unique local IPv6 address, or its IPv4 address.",
            ));
        }
        check_host(whole)?;
        Ok(Self::Host(whole.to_owned()))
    }

    /// How many destinations it becomes.
    pub fn count(&self) -> usize {
        match self {
            Self::Host(_) => 1,
            Self::Addresses(block) => block.count(),
        }
    }
}

impl Block {
    /// How many addresses it holds.
    pub fn count(&self) -> usize {
        // Both constructors keep it within MAX_DESTINATIONS.
        (number(self.last) - number(self.first) + 1) as usize
    }

    /// Its addresses, lowest first.
    pub fn addresses(self) -> impl Iterator<Item = IpAddr> {
        let v4 = self.first.is_ipv4();
        (number(self.first)..=number(self.last)).map(move |number| address(number, v4))
    }

    fn from_prefix(word: &str, within: IpAddr, prefix: &str) -> Result<Self, Mistake> {
        let bits = family_bits(within);
        let prefix = prefix
            .parse::<u32>()
            .ok()
            .filter(|number| *number <= bits && !prefix.starts_with('+'))
            .ok_or_else(|| {
                Mistake::new(
                    format!(
                        "{word:?}: the prefix length {prefix:?} is not a number from 0 to {bits}"
                    ),
                    if bits == 32 {
                        "A block is written like 10.0.0.0/24."
                    } else {
                        "A block is written like 2001:db8::/120."
                    },
                )
            })?;
        let host_bits = bits - prefix;
        let mask = 1_u128
            .checked_shl(host_bits)
            .map_or(u128::MAX, |size| size - 1);
        let (low, high) = (number(within) & !mask, number(within) | mask);
        // RFC 3021 and RFC 6164: blocks of two addresses have no network, broadcast or anycast
        // address; single addresses neither.
        let skip = u128::from(host_bits > 1);
        let skip_last = if within.is_ipv4() { skip } else { 0 };
        Self::checked(word, within.is_ipv4(), low + skip, high - skip_last)
    }

    fn from_range(word: &str, first: IpAddr, last: &str) -> Result<Self, Mistake> {
        let last: IpAddr = unbracket(last).parse().map_err(|_| {
            Mistake::new(
                format!("{word:?}: {last:?} is not an address"),
                "A range names its first and last address in full, like 10.0.0.1-10.0.0.9.",
            )
        })?;
        let (first, last) = (first.to_canonical(), last.to_canonical());
        if first.is_ipv4() != last.is_ipv4() {
            return Err(Mistake::new(
                format!("{word:?}: one end is an IPv4 address, the other an IPv6 address"),
                "Give two ranges, one a family.",
            ));
        }
        if first > last {
            return Err(Mistake::new(
                format!("{word:?}: the range ends before it begins"),
                format!("Turn it round: {last}-{first}"),
            ));
        }
        Self::checked(word, first.is_ipv4(), number(first), number(last))
    }

    fn checked(word: &str, v4: bool, first: u128, last: u128) -> Result<Self, Mistake> {
        let count_less_one = last - first;
        if count_less_one >= MAX_DESTINATIONS as u128 {
            return Err(too_many(
                &format!("{word:?} holds"),
                count_less_one.saturating_add(1),
            ));
        }
        let (first, last) = (address(first, v4), address(last, v4));
        for end in [first, last] {
            if end != end.to_canonical() {
                return Err(Mistake::new(
                    format!("{word:?} holds IPv4 addresses in IPv6 form"),
                    "Write them as IPv4: 10.0.0.0/24 or 10.0.0.1-10.0.0.9.",
                ));
            }
            check_address(end).map_err(|mistake| mistake.at(format_args!("{word:?}")))?;
        }
        Ok(Self { first, last })
    }
}

/// The mistake of asking for more than [`MAX_DESTINATIONS`].
pub(crate) fn too_many(subject: &str, count: u128) -> Mistake {
    Mistake::new(
        format!(
            "{subject} {}, too many for one run",
            counted(count, "address")
        ),
        format!(
            "One run can probe {} at most.\n\
             Give a smaller block, or split it over several probers.",
            counted(MAX_DESTINATIONS as u128, "address")
        ),
    )
}

/// Refuses addresses from which no answer can come that would be known as theirs.
///
/// # Errors
///
/// A [`Mistake`] that says why.
pub fn check_address(address: IpAddr) -> Result<(), Mistake> {
    let why = match address {
        IpAddr::V4(v4) if v4.is_broadcast() => "is the broadcast address",
        _ if address.is_multicast() => "is a multicast address",
        _ if address.is_unspecified() => "is the unspecified address",
        IpAddr::V6(v6) if v6.is_unicast_link_local() => {
            return Err(Mistake::new(
                format!("{address} is a link-local address, which is not supported yet"),
                "Use the host's global or unique local IPv6 address, or its IPv4 address.",
            ));
        }
        _ => return Ok(()),
    };
    Err(Mistake::new(
        format!("{address} {why}: no single host answers it"),
        "Name the hosts one by one, or as a block of their own addresses.",
    ))
}

/// Refuses words that the resolver would misread or could never find.
fn check_host(word: &str) -> Result<(), Mistake> {
    const FORMS: &str = "A destination is a host name (example.org), an address (192.0.2.1, \
                         2001:db8::1),\na block (10.0.0.0/24) or a range (10.0.0.1-10.0.0.9),\n\
                         each also with protocol and port (tcp://example.org:443).";
    let wrong = |why: &str, advice: String| Err(Mistake::new(format!("{word:?} {why}"), advice));
    if word.is_empty() {
        return wrong("names no destination", FORMS.into());
    }
    if let Some((scheme, rest)) = word.split_once("://") {
        let host = rest.split(['/', ':', '?', '#']).next().unwrap_or_default();
        let port = if scheme.eq_ignore_ascii_case("https") {
            443
        } else {
            80
        };
        let advice = format!(
            "Give the host alone: {host}\nor, to see whether it takes connections: \
             tcp://{host}:{port}"
        );
        return wrong("is a URL of a kind that is not probed", advice);
    }
    if let Some((host, port)) = word.rsplit_once(':') {
        if !host.contains(':') && !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) {
            return wrong(
                "names a port, but not the protocol",
                format!("Write tcp://{word} or udp://{word}, or the host alone: {host}"),
            );
        }
        return wrong("is not an IPv6 address", FORMS.into());
    }
    if !word.is_ascii() {
        let advice = "Write the name in its ASCII form, which begins with xn--.";
        return wrong("holds letters that DNS does not know", advice.into());
    }
    let letters = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if !word.bytes().all(letters) {
        return wrong("is no destination", FORMS.into());
    }
    let labels = word.strip_suffix('.').unwrap_or(word).split('.');
    if word.len() > 254
        || labels
            .clone()
            .any(|label| label.is_empty() || label.len() > 63)
    {
        // RFC 1035, section 2.3.4.
        let advice = "Names have 253 letters at most, and 1 to 63 between two dots.";
        return wrong("is not a host name", advice.into());
    }
    // `getaddrinfo` would read "10.0.1" as 10.0.0.1; no top-level domain is a number.
    if labels
        .clone()
        .next_back()
        .is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()))
    {
        let advice = "An IPv4 address has four numbers from 0 to 255, without leading zeros.";
        return wrong("is not an IPv4 address", advice.into());
    }
    if word.starts_with('-') {
        return wrong("begins with a dash, which no host name does", FORMS.into());
    }
    Ok(())
}

/// Without one pair of brackets around all of it.
fn unbracket(word: &str) -> &str {
    word.strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .filter(|inner| !inner.contains(['[', ']']))
        .unwrap_or(word)
}

fn family_bits(address: IpAddr) -> u32 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn address(number: u128, v4: bool) -> IpAddr {
    if v4 {
        // Within 32 bits: it came from `number` or a mask of that width.
        Ipv4Addr::from_bits(number as u32).into()
    } else {
        Ipv6Addr::from_bits(number).into()
    }
}

#[cfg(test)]
mod tests;
