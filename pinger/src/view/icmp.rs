//! ICMP errors in words.

use std::net::IpAddr;

/// What an ICMP error says of a probe to `address`, as RFC 792, RFC 1122, RFC 1812 and RFC 4443
/// name it.
pub(super) fn error_text(address: IpAddr, icmp_type: u8, icmp_code: u8) -> String {
    let (known, protocol) = match address {
        IpAddr::V4(_) => (error_v4(icmp_type, icmp_code), "ICMP"),
        IpAddr::V6(_) => (error_v6(icmp_type, icmp_code), "ICMPv6"),
    };
    match known {
        Some(text) => text.to_owned(),
        // This type is no error: what it was is not known.
        None if icmp_type == 0 => format!("{protocol} error, its details lost"),
        None => format!("{protocol} error of type {icmp_type}, code {icmp_code}"),
    }
}

fn error_v4(icmp_type: u8, icmp_code: u8) -> Option<&'static str> {
    Some(match (icmp_type, icmp_code) {
        (3, 0) => "network unreachable",
        (3, 1) => "host unreachable",
        (3, 2) => "protocol unreachable",
        (3, 3) => "port unreachable",
        (3, 4) => "packet too big, and it may not be fragmented",
        (3, 5) => "source route failed",
        (3, 6) => "network unknown",
        (3, 7) => "host unknown",
        (3, 8) => "source host isolated",
        (3, 9) => "network administratively prohibited",
        (3, 10) => "host administratively prohibited",
        (3, 11) => "network unreachable for this type of service",
        (3, 12) => "host unreachable for this type of service",
        (3, 13) => "communication administratively prohibited",
        (3, 14) => "host precedence violation",
        (3, 15) => "precedence cutoff in effect",
        (4, 0) => "source quench",
        (5, 0..=3) => "redirected",
        (11, 0) => "time to live exceeded",
        (11, 1) => "fragment reassembly time exceeded",
        (12, _) => "parameter problem",
        _ => return None,
    })
}

fn error_v6(icmp_type: u8, icmp_code: u8) -> Option<&'static str> {
    Some(match (icmp_type, icmp_code) {
        (1, 0) => "no route to destination",
        (1, 1) => "administratively prohibited",
        (1, 2) => "beyond scope of source address",
        (1, 3) => "address unreachable",
        (1, 4) => "port unreachable",
        (1, 5) => "source address failed ingress policy",
        (1, 6) => "route to destination rejected",
        (2, _) => "packet too big",
        (3, 0) => "hop limit exceeded",
        (3, 1) => "fragment reassembly time exceeded",
        (4, _) => "parameter problem",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_words_and_unknown_ones_their_numbers() {
        let (v4, v6) = ([192, 0, 2, 1].into(), [0x2001, 0, 0, 0, 0, 0, 0, 1].into());
        for (address, icmp_type, code, text) in [
            (v4, 3, 1, "host unreachable"),
            (v4, 11, 0, "time to live exceeded"),
            (v6, 1, 3, "address unreachable"),
            (v6, 3, 0, "hop limit exceeded"),
            (v4, 3, 99, "ICMP error of type 3, code 99"),
            (v4, 0, 0, "ICMP error, its details lost"),
            (v6, 11, 0, "ICMPv6 error of type 11, code 0"),
        ] {
            assert_eq!(error_text(address, icmp_type, code), text);
        }
    }
}
