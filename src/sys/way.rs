//! Socket options that decide which way packets leave this host. Each is a call of its own, which the relay
//! makes only if its configuration asks for it.

use std::io;
use std::net::SocketAddr;

use socket2::Socket;

/// Whether this system has marks, and sockets that are bound to an interface.
pub(crate) const HAS_WAYS: bool = cfg!(target_os = "linux");

/// Marks the socket's packets for routing rules and netfilter.
#[cfg(target_os = "linux")]
pub(crate) fn set_mark(socket: &Socket, mark: u32) -> io::Result<()> {
    socket.set_mark(mark)
}

/// Lets a socket of the family of `address` be bound to an address of another host.
#[cfg(target_os = "linux")]
pub(crate) fn set_transparent(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    if address.is_ipv4() { socket.set_ip_transparent_v4(true) } else { socket.set_ip_transparent_v6(true) }
}

/// Binds the socket to an interface. It then sends and receives nowhere else.
#[cfg(target_os = "linux")]
pub(crate) fn set_interface(socket: &Socket, name: &str) -> io::Result<()> {
    socket.bind_device(Some(name.as_bytes()))
}

/// Returns whether the socket is bound to this interface.
#[cfg(target_os = "linux")]
pub(crate) fn has_interface(socket: &Socket, name: &str) -> bool {
    socket.device().is_ok_and(|device| device.is_some_and(|device| device == name.as_bytes()))
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn set_mark(_: &Socket, _: u32) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn set_transparent(_: &Socket, _: SocketAddr) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn set_interface(_: &Socket, _: &str) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn has_interface(_: &Socket, _: &str) -> bool {
    false
}

/// Sets the code point of differentiated services (DSCP) on a socket of the family of `address`. Accepted
/// sockets inherit it from the listener.
pub(crate) fn set_dscp(socket: &Socket, address: SocketAddr, dscp: u8) -> io::Result<()> {
    // The two bits below it are for ECN, and the kernel sets them.
    let class = u32::from(dscp) << 2;
    if address.is_ipv4() {
        return socket.set_tos_v4(class);
    }
    // For IPv4 through an IPv6 socket. Not every system supports that.
    let _ = socket.set_tos_v4(class);
    socket.set_tclass_v6(class)
}
