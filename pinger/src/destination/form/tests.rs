//! Forms of destinations as tables: what each word becomes, or what is said against it.

use proptest::prelude::*;

use super::*;

/// First address, last address and count of a block.
fn check(word: &str, first: &str, last: &str, count: usize) {
    let Ok(Form::Addresses(block)) = Form::parse(word) else {
        panic!("{word}: {:?}", Form::parse(word));
    };
    assert_eq!(block.count(), count, "{word}");
    let addresses: Vec<_> = block.addresses().collect();
    assert_eq!(addresses.len(), count, "{word}");
    assert_eq!(addresses[0].to_string(), first, "{word}");
    assert_eq!(addresses[count - 1].to_string(), last, "{word}");
    assert!(
        addresses.is_sorted_by(|a, b| number(*a) + 1 == number(*b)),
        "{word}"
    );
}

#[test]
fn addresses_blocks_and_ranges() {
    check("192.0.2.1", "192.0.2.1", "192.0.2.1", 1);
    check("2001:db8::1", "2001:db8::1", "2001:db8::1", 1);
    check("[2001:db8::1]", "2001:db8::1", "2001:db8::1", 1);
    check("::ffff:192.0.2.1", "192.0.2.1", "192.0.2.1", 1);
    check("10.0.0.0/24", "10.0.0.1", "10.0.0.254", 254);
    check("10.0.0.77/24", "10.0.0.1", "10.0.0.254", 254);
    check("10.0.0.4/30", "10.0.0.5", "10.0.0.6", 2);
    check("10.0.0.4/31", "10.0.0.4", "10.0.0.5", 2);
    check("10.0.0.4/32", "10.0.0.4", "10.0.0.4", 1);
    check("10.16.0.0/12", "10.16.0.1", "10.31.255.254", 1_048_574);
    check("2001:db8::/120", "2001:db8::1", "2001:db8::ff", 255);
    check("[2001:db8::]/126", "2001:db8::1", "2001:db8::3", 3);
    check("2001:db8::/127", "2001:db8::", "2001:db8::1", 2);
    check("2001:db8::9/128", "2001:db8::9", "2001:db8::9", 1);
    check(
        "2001:db8::/108",
        "2001:db8::1",
        "2001:db8::f:ffff",
        1_048_575,
    );
    check("10.0.0.9-10.0.0.9", "10.0.0.9", "10.0.0.9", 1);
    check("10.0.0.250-10.0.1.5", "10.0.0.250", "10.0.1.5", 12);
    check(
        "10.0.0.0-10.15.255.255",
        "10.0.0.0",
        "10.15.255.255",
        1_048_576,
    );
    check(
        "2001:db8::fffe-2001:db8::1:1",
        "2001:db8::fffe",
        "2001:db8::1:1",
        4,
    );
    check(
        "[2001:db8::1]-[2001:db8::3]",
        "2001:db8::1",
        "2001:db8::3",
        3,
    );
}

#[test]
fn host_names() {
    for word in [
        "localhost",
        "example.org",
        "example.org.",
        "a-b.c-d",
        "_dns.host",
        "3com.com",
    ] {
        assert_eq!(Form::parse(word), Ok(Form::Host(word.to_owned())));
    }
}

#[test]
fn what_is_no_destination_is_told_why() {
    for (word, what) in [
        ("", "names no destination"),
        ("10.0.0.0/33", "not a number from 0 to 32"),
        ("2001:db8::/129", "not a number from 0 to 128"),
        ("10.0.0.0/", "not a number from 0 to 32"),
        ("10.0.0.0/+8", "not a number from 0 to 32"),
        ("10.0.0.0/255.255.255.0", "not a number from 0 to 32"),
        (
            "10.0.0.0/11",
            "holds 2,097,150 addresses, too many for one run",
        ),
        ("10.0.0.0-10.16.0.0", "holds 1,048,577 addresses, too many"),
        (
            "2001:db8::/64",
            "holds 18,446,744,073,709,551,615 addresses, too many",
        ),
        (
            "::/0",
            "holds 340,282,366,920,938,463,463,374,607,431,768,211,455 addresses, too many",
        ),
        ("0.0.0.0/0", "holds 4,294,967,294 addresses, too many"),
        ("::ffff:10.0.0.0/120", "IPv4 addresses in IPv6 form"),
        ("10.0.0.9-10.0.0.1", "ends before it begins"),
        ("10.0.0.1-50", "\"50\" is not an address"),
        ("10.0.0.1-2001:db8::1", "one end is an IPv4 address"),
        ("0.0.0.0", "unspecified"),
        ("::", "unspecified"),
        ("224.0.0.1", "multicast"),
        ("ff02::1", "multicast"),
        ("223.255.255.250-224.0.0.3", "multicast"),
        ("255.255.255.255", "broadcast"),
        ("fe80::1", "link-local address, which is not supported yet"),
        ("fe80::1%eth0", "scope are not supported yet"),
        ("https://example.org/index", "is a URL of a kind"),
        ("example.org:80", "names a port, but not the protocol"),
        ("2001:db8:::1", "not an IPv6 address"),
        ("10.0.1", "not an IPv4 address"),
        ("10.0.0.256", "not an IPv4 address"),
        ("010.0.0.1", "not an IPv4 address"),
        ("bücher.example", "letters that DNS does not know"),
        ("a b", "is no destination"),
        ("example.org/24", "is no destination"),
        ("a..b", "not a host name"),
        (".", "not a host name"),
        ("-x.example", "begins with a dash"),
    ] {
        let mistake = Form::parse(word).expect_err(word);
        assert!(mistake.what.contains(what), "{word}: {mistake}");
        assert!(!mistake.advice.is_empty(), "{word}");
    }
    let long = format!("{}.example", "x".repeat(64));
    assert!(Form::parse(&long).is_err());
}

#[test]
fn urls_tell_protocol_and_port() {
    use ProtocolName::{Icmp, Tcp, Udp};
    for (word, protocol, port, host) in [
        ("tcp://example.org:443", Tcp, Some(443), "example.org"),
        ("TCP://example.org", Tcp, None, "example.org"),
        ("udp://10.0.0.0/24:7", Udp, Some(7), "10.0.0.0/24"),
        (
            "udp://10.0.0.1-10.0.0.9:7",
            Udp,
            Some(7),
            "10.0.0.1-10.0.0.9",
        ),
        ("udp://[2001:db8::1]:53", Udp, Some(53), "2001:db8::1"),
        ("udp://[2001:db8::1]", Udp, None, "2001:db8::1"),
        ("udp://2001:db8::1", Udp, None, "2001:db8::1"),
        ("tcp://[2001:db8::]/120:9", Tcp, Some(9), "2001:db8::/120"),
        ("tcp://[2001:db8::/120]:9", Tcp, Some(9), "2001:db8::/120"),
        (
            "tcp://[2001:db8::1]-[2001:db8::9]:65535",
            Tcp,
            Some(65_535),
            "2001:db8::1-2001:db8::9",
        ),
        (
            "tcp://[2001:db8::1-2001:db8::9]:1",
            Tcp,
            Some(1),
            "2001:db8::1-2001:db8::9",
        ),
        ("icmp://192.0.2.1", Icmp, None, "192.0.2.1"),
        ("icmp://[2001:db8::1]", Icmp, None, "2001:db8::1"),
    ] {
        let written = Written::parse(word).unwrap_or_else(|mistake| panic!("{word}: {mistake}"));
        assert_eq!(written.protocol, Some(protocol), "{word}");
        assert_eq!(written.port, port, "{word}");
        assert_eq!(Ok(written.form), Form::parse(host), "{word}");
    }
    let plain = Written::parse("example.org").unwrap();
    assert_eq!((plain.protocol, plain.port), (None, None));
    assert_eq!(plain.form, Form::Host("example.org".into()));
}

#[test]
fn wrong_urls_are_told_why() {
    for (word, what) in [
        ("icmp://192.0.2.1:80", "names a port, and ICMP has none"),
        (
            "tcp://192.0.2.1:0",
            "the port \"0\" is not a number from 1 to 65,535",
        ),
        ("tcp://192.0.2.1:65536", "the port \"65536\" is not"),
        ("tcp://192.0.2.1:+1", "the port \"+1\" is not"),
        ("tcp://192.0.2.1:", "the port \"\" is not"),
        ("udp://[2001:db8::1]:http", "the port \"http\" is not"),
        ("tcp://:80", "\"\" names no destination"),
        ("tcp://", "\"\" names no destination"),
        ("tcp://example.org:80/path", "the port \"80/path\" is not"),
        ("udp://10.0.0.0/33:7", "not a number from 0 to 32"),
        ("udp://224.0.0.1:7", "multicast"),
        ("sctp://192.0.2.1:7", "is a URL of a kind"),
    ] {
        let mistake = Written::parse(word).expect_err(word);
        assert!(mistake.what.contains(what), "{word}: {mistake}");
        assert!(!mistake.advice.is_empty(), "{word}");
    }
}

proptest! {
    #[test]
    fn any_url_is_read_or_refused(
        word in "(tcp|udp|icmp)://([0-9a-f:./%\\[\\]-]{0,30}|\\PC{0,20})",
    ) {
        if let Ok(written) = Written::parse(&word) {
            prop_assert!(written.protocol.is_some());
            prop_assert!(written.port != Some(0));
            prop_assert!((1..=MAX_DESTINATIONS).contains(&written.form.count()));
        }
    }

    #[test]
    fn any_word_is_a_form_or_a_mistake(word in "\\PC{0,40}|[0-9a-f:./%\\[\\]-]{0,40}") {
        if let Ok(form) = Form::parse(&word) {
            prop_assert!((1..=MAX_DESTINATIONS).contains(&form.count()));
        }
    }

    #[test]
    fn an_address_names_itself(bits in any::<u128>(), v4 in any::<bool>()) {
        let address = address(if v4 { bits & 0xffff_ffff } else { bits }, v4).to_canonical();
        match Form::parse(&address.to_string()) {
            Ok(Form::Addresses(block)) => {
                prop_assert_eq!(block.addresses().collect::<Vec<_>>(), [address]);
            }
            Ok(Form::Host(name)) => prop_assert!(false, "{} taken for a name", name),
            Err(_) => prop_assert!(check_address(address).is_err()),
        }
    }
}
