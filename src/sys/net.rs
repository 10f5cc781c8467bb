//! Questions to the kernel about addresses, interfaces and sockets, without privileges and without netlink.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6, UdpSocket};

use mio::net::TcpStream;
use nix::net::if_::{if_indextoname, if_nametoindex};
use nix::sys::socket::{getsockopt, sockopt};
use socket2::{Domain, Socket, Type};

use crate::sys::way::set_interface;

/// The port of the connects that ask for a route. Nothing is sent to it.
const DISCARD: u16 = 9;

/// The interface of loopback addresses, on Linux.
const LOOPBACK: &str = "lo";

/// Returns the index of the interface with this name or index; `None`: there is no such interface.
pub(crate) fn interface_index(zone: &str) -> Option<u32> {
    if !zone.bytes().all(|byte| byte.is_ascii_digit()) {
        return index_of(zone);
    }
    let index = zone.parse().ok()?;
    // For an unknown index, nix returns an empty name and no error.
    let is_known = if_indextoname(index).is_ok_and(|name| !name.is_empty());
    is_known.then_some(index)
}

/// Returns whether this host has an interface of this name.
pub(crate) fn is_interface(name: &str) -> bool {
    index_of(name).is_some()
}

#[inline(never)]
fn index_of(name: &str) -> Option<u32> {
    if_nametoindex(name).ok()
}

/// Returns whether a socket can be bound to `address`. With `ip_nonlocal_bind`, it can to any.
pub(crate) fn can_be_bound(address: SocketAddr) -> bool {
    UdpSocket::bind(with_port(address, 0)).is_ok()
}

/// Returns whether the kernel delivers packets for `address` to this host. A loopback address is this
/// host's by definition.
pub(crate) fn is_own(address: SocketAddr) -> bool {
    if address.ip().is_loopback() {
        return true;
    }
    match address {
        // The source of a route must be this host's, even where bind accepts any address. The source that
        // the kernel chooses by itself proves less, because for a secondary address it is the primary one.
        SocketAddr::V4(_) => UdpSocket::bind(with_port(address, 0))
            .and_then(|socket| socket.connect(with_port(address, DISCARD)))
            .is_ok(),
        // If the destination is this host's, the kernel chooses it as the source.
        SocketAddr::V6(_) => source_towards(address, None).is_ok_and(|source| source.ip() == address.ip()),
    }
}

/// Returns whether `address` is the broadcast address of a network that this host is in.
pub(crate) fn is_broadcast(address: IpAddr) -> bool {
    let IpAddr::V4(address) = address else { return false };
    let connect = |socket: &UdpSocket| socket.connect((address, DISCARD));
    UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).is_ok_and(|socket| {
        // The kernel demands this option for a broadcast address and for no other.
        let is_denied = |result: io::Result<()>| {
            result.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
        };
        is_denied(connect(&socket)) && socket.set_broadcast(true).is_ok() && connect(&socket).is_ok()
    })
}

/// Returns whether connections from this host to its own `address` come in on this interface, as they do if the
/// interface has the address. Returns true where the kernel does not say.
pub(crate) fn comes_in_on(address: SocketAddr, interface: &str) -> bool {
    let is_loopback = interface == LOOPBACK;
    if address.ip().is_loopback() || is_loopback {
        return address.ip().is_loopback() == is_loopback;
    }
    // Through another interface the kernel would choose another source.
    let source = |interface| source_towards(address, interface).map(|source| source.ip());
    match (source(None), source(Some(interface))) {
        (Ok(any), Ok(this)) => any == this,
        (_, Err(error)) => error.kind() == io::ErrorKind::PermissionDenied,
        _ => true,
    }
}

/// Returns whether this host has a way to `address`: a route, and a source address for it.
pub(crate) fn has_way_to(address: SocketAddr) -> bool {
    source_towards(address, None).is_ok()
}

/// Returns the source that the kernel would choose for a connect to `address`, through an interface if one is
/// given. Connecting a datagram socket sends nothing.
fn source_towards(address: SocketAddr, interface: Option<&str>) -> io::Result<SocketAddr> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
    if let Some(name) = interface {
        set_interface(&socket, name)?;
    }
    socket.connect(&with_port(address, DISCARD).into())?;
    UdpSocket::from(socket).local_addr()
}

fn with_port(mut address: SocketAddr, port: u16) -> SocketAddr {
    address.set_port(port);
    address
}

/// Returns whether this is a listening TCP socket.
pub(crate) fn is_listening(socket: &std::net::TcpListener) -> bool {
    getsockopt(socket, sockopt::AcceptConn).unwrap_or(false) && socket.local_addr().is_ok()
}

/// How the peer of an accepted connection asked for an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// It connected to that very address.
    Untranslated,
    /// It connected to an address that this host translated.
    Translated,
}

/// Returns how the peer of an accepted connection asked for `target`; `None`: it did not.
pub(crate) fn asked_for(accepted: &TcpStream, target: SocketAddr) -> Option<Asked> {
    if accepted.local_addr().is_ok_and(|address| canonical(address) == target) {
        return Some(Asked::Untranslated);
    }
    before_translation(accepted).any(|address| canonical(address) == target).then_some(Asked::Translated)
}

/// Returns the destination before netfilter translated it, where the kernel knows it.
#[cfg(target_os = "linux")]
fn before_translation(accepted: &TcpStream) -> impl Iterator<Item = SocketAddr> {
    let socket = socket2::SockRef::from(accepted);
    let answers = [socket.original_dst_v4(), socket.original_dst_v6()];
    answers.into_iter().filter_map(|address| address.ok()?.as_socket())
}

#[cfg(not(target_os = "linux"))]
fn before_translation(_: &TcpStream) -> impl Iterator<Item = SocketAddr> {
    std::iter::empty()
}

/// Returns the form of an address for comparisons: IPv4-mapped becomes IPv4, and a zone is kept.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    match (address.ip().to_canonical(), address) {
        (IpAddr::V6(ip), SocketAddr::V6(address)) => {
            SocketAddrV6::new(ip, address.port(), 0, address.scope_id()).into()
        }
        (ip, _) => SocketAddr::new(ip, address.port()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_this_host_are_its_own() {
        for (address, own) in
            [("127.0.0.1:80", true), ("127.3.2.1:80", true), ("[::1]:80", true), ("192.0.2.1:80", false)]
        {
            assert_eq!(is_own(address.parse().unwrap()), own, "{address}");
        }
        assert!(!is_own("[2001:db8::1]:80".parse().unwrap()));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn only_broadcast_addresses_are_recognised_as_such() {
        for (address, broadcast) in
            [("127.255.255.255", true), ("127.0.0.1", false), ("192.0.2.1", false), ("::1", false)]
        {
            assert_eq!(is_broadcast(address.parse().unwrap()), broadcast, "{address}");
        }
    }

    #[test]
    fn an_interface_is_found_by_name_and_by_index_and_no_other_is_found() {
        let index = interface_index("lo").or_else(|| interface_index("lo0")).unwrap();
        assert_eq!(interface_index(&index.to_string()), Some(index));
        for zone in
            ["", "0", "-1", "+1", "1.0", "no-such-interface", "4294967295", "99999999999", "l\0o", "%lo"]
        {
            assert_eq!(interface_index(zone), None, "{zone:?}");
        }
    }

    #[test]
    fn one_address_has_one_canonical_form() {
        let cases = [
            ("[::ffff:192.0.2.1]:80", "192.0.2.1:80"),
            ("192.0.2.1:80", "192.0.2.1:80"),
            ("[fe80::1%3]:80", "[fe80::1%3]:80"),
        ];
        for (address, expected) in cases {
            assert_eq!(canonical(address.parse().unwrap()), expected.parse().unwrap());
        }
    }
}
