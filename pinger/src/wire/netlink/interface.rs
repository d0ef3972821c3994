//! Whether probes can leave through an interface, and what to do if not.

use thiserror::Error;

use super::{Netlink, NetlinkError};
use crate::route::Link;

/// Why probes cannot leave through an interface.
#[derive(Debug, Error)]
pub enum InterfaceError {
    /// None of this name.
    #[error("there is no interface {name}; this host has: {}", existing.join(", "))]
    NoSuch {
        /// The name asked for.
        name: String,
        /// The names there are.
        existing: Vec<String>,
    },
    /// The loopback interface.
    #[error(
        "{name} is the loopback interface and leads to this host only; \
         name one that leads to other hosts, or leave -i out"
    )]
    Loopback {
        /// Its name.
        name: String,
    },
    /// Not an Ethernet interface.
    #[error(
        "{name} has no Ethernet address (a tunnel or point-to-point interface); \
         pinger sends Ethernet frames: name the Ethernet interface that carries it"
    )]
    NotEthernet {
        /// Its name.
        name: String,
    },
    /// Not set up.
    #[error("{name} is down; set it up with `ip link set {name} up`")]
    Down {
        /// Its name.
        name: String,
    },
    /// Up, but nothing on the other end.
    #[error("{name} is up but has no carrier; check its cable, its peer, or its Wi-Fi")]
    NoCarrier {
        /// Its name.
        name: String,
    },
    /// The kernel could not be asked.
    #[error("cannot look up interface {name}")]
    Netlink {
        /// The name asked for.
        name: String,
        /// What went wrong.
        source: NetlinkError,
    },
}

impl Netlink {
    /// The interface of this name, if probes can leave through it.
    ///
    /// # Errors
    /// [`InterfaceError`] says why they cannot.
    pub fn interface(&mut self, name: &str) -> Result<Link, InterfaceError> {
        let links = self.links().map_err(|source| InterfaceError::Netlink {
            name: name.to_owned(),
            source,
        })?;
        let link = interface_named(&links, name)?;
        link.check()?;
        Ok(link.clone())
    }
}

/// The interface of this name among those that there are.
///
/// # Errors
/// [`InterfaceError::NoSuch`] if there is none.
pub fn interface_named<'a>(links: &'a [Link], name: &str) -> Result<&'a Link, InterfaceError> {
    let found = links.iter().find(|link| link.name == name);
    found.ok_or_else(|| InterfaceError::NoSuch {
        name: name.to_owned(),
        existing: links.iter().map(|link| link.name.clone()).collect(),
    })
}

impl Link {
    /// Whether probes can leave through it.
    ///
    /// # Errors
    /// [`InterfaceError`] says why they cannot.
    pub fn check(&self) -> Result<(), InterfaceError> {
        let name = self.name.clone();
        match self {
            Self { loopback: true, .. } => Err(InterfaceError::Loopback { name }),
            Self { mac: None, .. } => Err(InterfaceError::NotEthernet { name }),
            Self { up: false, .. } => Err(InterfaceError::Down { name }),
            Self { running: false, .. } => Err(InterfaceError::NoCarrier { name }),
            _ => Ok(()),
        }
    }
}
