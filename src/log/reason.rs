//! Reasons: the lines that follow those of the original's messages that hide their cause.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};

use crate::config::status::StatusAddress;
use crate::log::message::Message;
use crate::session::ended::{Identity, Unreached};
use crate::sys::{NO_MORE_DESCRIPTORS, NO_SUCH_FAMILY};

impl Message {
    /// Returns the line that follows in the text log. None: the message does not hide its cause. In the JSON log,
    /// the message's own fields have the cause.
    #[must_use]
    pub fn reason(&self) -> Option<Self> {
        match self {
            Self::InvalidFwdPort { given }
            | Self::InvalidTrgHost { given }
            | Self::InvalidTrgPort { given }
            | Self::InvalidAcl { given }
            | Self::InvalidConnectTimeout { given }
            | Self::InvalidIdleTimeout { given }
            | Self::InvalidAbsoluteTimeout { given }
            | Self::InvalidBuf { given } => Some(Self::ValueGiven { given: given.clone() }),
            &Self::ListenerSocket { failure }
            | &Self::ListenerBind { failure }
            | &Self::ListenerListen { failure }
            | &Self::PollUnavailable { failure } => Some(Self::StartReason { failure }),
            &Self::TargetSocket { requester, errno, .. } => Some(Self::ConnectionReason { requester, errno }),
            Self::ConnectNotStarted { session, summary } => connection_reason(session, summary.errno),
            Self::TargetRefused { session, summary } => {
                let is_refusal = |&errno: &i32| Errno(errno).kind() == ErrorKind::ConnectionRefused;
                connection_reason(session, summary.errno.filter(|errno| !is_refusal(errno)))
            }
            _ => None,
        }
    }
}

fn connection_reason(session: &Identity, errno: Option<i32>) -> Option<Message> {
    let requester = session.requester;
    errno.map(|errno| Message::ConnectionReason { requester, errno: Errno(errno) })
}

/// Returns why a target was not reached, in words.
pub(crate) fn words(unreached: &Unreached) -> String {
    unreached.errno.map_or_else(|| "no answer in time".into(), |errno| Errno(errno).words())
}

/// An error number of the operating system. `Display` writes the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i32);

impl Errno {
    fn kind(self) -> ErrorKind {
        io::Error::from_raw_os_error(self.0).kind()
    }

    /// Returns the system's words for the error.
    #[must_use]
    pub fn words(self) -> String {
        let mut words = io::Error::from_raw_os_error(self.0).to_string();
        // The standard library appends the number.
        if let Some(end) = words.rfind(" (os error ") {
            words.truncate(end);
        }
        words
    }
}

impl From<&io::Error> for Errno {
    fn from(error: &io::Error) -> Self {
        Self(crate::sys::errno(error))
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The addresses of a name. `Display` writes them with commas between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses(pub Vec<IpAddr>);

impl Addresses {
    /// Returns a sentence about the addresses that stay in use after a failed lookup.
    #[must_use]
    pub fn kept(&self) -> String {
        if self.0.is_empty() {
            "No address of it is known.".into()
        } else {
            format!("Its last addresses stay: {self}.")
        }
    }
}

impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, address) in self.0.iter().enumerate() {
            let separator = if place == 0 { "" } else { ", " };
            write!(f, "{separator}{address}")?;
        }
        Ok(())
    }
}

/// Why the relay cannot listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenFailure {
    /// The address to listen on.
    pub address: SocketAddr,
    /// The system's error.
    pub errno: Errno,
}

impl ListenFailure {
    /// Returns the cure, with a leading space; empty: none is known.
    #[must_use]
    pub fn cure(self) -> String {
        let port = self.address.port();
        match self.errno.kind() {
            ErrorKind::PermissionDenied if port < 1024 => " Ports below 1024 need CAP_NET_BIND_SERVICE: \
                 start as root, or run 'setcap cap_net_bind_service=+ep' on the program."
                .into(),
            ErrorKind::AddrInUse => format!(
                " Another socket has the port: 'ss -ltnp sport = :{port}' shows whose. \
                 Relays share a port if all of them have --reuse-port."
            ),
            ErrorKind::AddrNotAvailable => {
                " This host does not have the address: 'ip address' shows those it has.".into()
            }
            _ if self.errno.0 == NO_SUCH_FAMILY && self.address.is_ipv6() => {
                " This system does without IPv6.".into()
            }
            _ if self.errno.0 == NO_MORE_DESCRIPTORS => {
                " The limit of descriptors is too low: 'ulimit -n' shows it.".into()
            }
            _ => String::new(),
        }
    }
}

/// Why the relay cannot do what an option asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionFailure {
    /// The option.
    pub option: &'static str,
    /// The system's error.
    pub errno: Errno,
}

impl OptionFailure {
    /// Returns the cure.
    #[must_use]
    pub fn cure(self) -> &'static str {
        if self.errno.kind() != ErrorKind::PermissionDenied {
            return "This system does without it.";
        }
        match self.option {
            "--user" => "It needs CAP_SETUID and CAP_SETGID: start as root.",
            "--chroot" => "It needs CAP_SYS_CHROOT: start as root.",
            "--source-interface" => {
                "On kernels before 5.7 it needs CAP_NET_RAW: start as root, without --user."
            }
            _ => {
                "It needs CAP_NET_ADMIN: start as root, run 'setcap cap_net_admin=+ep' on the program, or set \
                 AmbientCapabilities=CAP_NET_ADMIN in its unit."
            }
        }
    }
}

/// Why the status cannot be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusFailure {
    /// The place where it should be served.
    pub status: StatusAddress,
    /// The system's error.
    pub errno: Errno,
}

impl StatusFailure {
    /// Returns the cure, with a leading space; empty: none is known.
    #[must_use]
    pub fn cure(&self) -> String {
        match (self.status.tcp(), self.errno.kind()) {
            (Some(address), ErrorKind::AddrInUse) => format!(
                " Another socket has the port: 'ss -ltnp sport = :{}' shows whose. \
                 Each relay needs one of its own.",
                address.port()
            ),
            (Some(address), _) => ListenFailure { address, errno: self.errno }.cure(),
            (None, ErrorKind::AddrInUse) => {
                " Another process listens there, or it is no socket. Each relay needs a path of its own."
                    .into()
            }
            (None, ErrorKind::NotFound) => " Its folder does not exist.".into(),
            (None, _) => String::new(),
        }
    }
}
