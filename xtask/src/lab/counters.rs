//! What a namespace's kernel has counted: `/proc/net`'s `snmp`, `snmp6` and `netstat`, by the
//! names of `nstat`.

use std::fs;

use anyhow::{Context, Result};

use super::namespace::Namespace;

impl Namespace {
    /// Counters of this namespace's kernel, each by its group and name in one word, such as
    /// `IcmpInEchos` (RFC 4293), `Icmp6InEchos` or `TcpExtListenDrops` (Linux's own).
    ///
    /// # Errors
    /// Not root, the namespace is gone, or its kernel counts no such thing.
    pub fn counters<const N: usize>(&self, names: [&str; N]) -> Result<[u64; N]> {
        const FILES: [&str; 3] = ["snmp", "snmp6", "netstat"];
        // Those of the thread: the process is in another namespace.
        let read = |file| fs::read_to_string(format!("/proc/thread-self/net/{file}"));
        let texts = self.enter(|| FILES.map(read))?;
        let texts = texts.into_iter().collect::<Result<Vec<_>, _>>()?;
        let mut values = [0; N];
        for (counted, name) in values.iter_mut().zip(names) {
            let found = texts.iter().find_map(|text| value(text, name));
            *counted = found.with_context(|| format!("this kernel has no counter {name}"))?;
        }
        Ok(values)
    }
}

/// The value in a text of `Name value` lines, or of pairs of lines `Group: names` and
/// `Group: values`.
fn value(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let (first, rest) = line.split_once(char::is_whitespace)?;
        let Some(group) = first.strip_suffix(':') else {
            if first == name {
                return rest.trim().parse().ok();
            }
            continue;
        };
        let values = lines.next()?.split_whitespace().skip(1);
        let wanted = name.strip_prefix(group);
        let mut pairs = rest.split_whitespace().zip(values);
        if let Some((_, value)) = pairs.find(|(name, _)| Some(*name) == wanted) {
            return value.parse().ok();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_found_in_both_forms_by_their_whole_names() {
        let pairs = "Icmp: InMsgs InEchos\nIcmp: 7 5\nIcmpMsg: InType8\nIcmpMsg: 9\n";
        assert_eq!(value(pairs, "IcmpInEchos"), Some(5));
        assert_eq!(value(pairs, "IcmpMsgInType8"), Some(9));
        assert_eq!(value(pairs, "InEchos"), None);
        assert_eq!(value(pairs, "IcmpInEcho"), None);
        let lines = "Icmp6InMsgs                     \t3\nIcmp6InEchos\t2\n";
        assert_eq!(value(lines, "Icmp6InEchos"), Some(2));
        assert_eq!(value(lines, "Icmp6InEcho"), None);
    }
}
