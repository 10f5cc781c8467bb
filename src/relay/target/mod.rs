//! The way to the target: its socket, the connect, and the header that may go first.

pub(crate) mod choice;
pub(crate) mod names;
pub(super) mod way;

use std::io;
use std::net::{Ipv6Addr, SocketAddr};

use mio::net::TcpStream;
use proxy_header::{ProxiedAddress, ProxyHeader};
use rustix::io::Errno;
pub(crate) use socket2::Socket;
use socket2::{Domain, Protocol, Type};

use crate::config::way::Source;
use crate::config::{Config, ProxyProtocol};
use crate::session::ended::{Cause, Unreached};
use crate::sys::net::canonical;
use crate::sys::{NO_SUCH_FAMILY, uninterrupted};

/// Returns a non-blocking socket for a connection to `target`.
pub(crate) fn socket(target: SocketAddr) -> io::Result<Socket> {
    let kind = Type::STREAM;
    #[cfg(target_os = "linux")]
    let kind = kind.nonblocking();
    let socket = Socket::new(Domain::for_address(target), kind, Some(Protocol::TCP))?;
    #[cfg(not(target_os = "linux"))]
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Begins to connect a session of `requester` to `target`, as `config` says.
///
/// # Errors
/// The socket cannot be prepared, or the kernel refuses at once.
pub(crate) fn begin_connect(
    socket: &Socket,
    config: &Config,
    requester: SocketAddr,
    target: SocketAddr,
) -> Result<(), Unreached> {
    // Urgent bytes stay in the stream, so that the relay passes them on in their place.
    socket.set_out_of_band_inline(true).map_err(|error| Unreached::new(Cause::ConnectNotStarted, &error))?;
    connect(socket, config, requester, target).map_err(|error| Unreached::new(Cause::TargetRefused, &error))
}

/// Returns a stream whose connect has begun.
///
/// # Errors
/// No socket can be made, or those of [`begin_connect`].
pub(crate) fn stream(
    config: &Config,
    requester: SocketAddr,
    target: SocketAddr,
) -> Result<TcpStream, Unreached> {
    let socket = socket(target).map_err(|error| Unreached::new(Cause::TargetRefused, &error))?;
    begin_connect(&socket, config, requester, target)?;
    Ok(TcpStream::from_std(socket.into()))
}

/// Returns whether a connection to `target` can come from `source`, at least for some requesters at `listen`.
pub(crate) fn can_serve(source: Source, target: SocketAddr, listen: SocketAddr) -> bool {
    let source = match source {
        Source::Host(host) => host.ip(),
        // Requesters of both families may come.
        Source::Requester if listen.ip() == Ipv6Addr::UNSPECIFIED => return true,
        Source::Requester => canonical(listen).ip(),
    };
    source.is_ipv4() == target.is_ipv4()
}

fn connect(socket: &Socket, config: &Config, requester: SocketAddr, target: SocketAddr) -> io::Result<()> {
    way::prepare(socket, config, target).map_err(|(_, error)| error)?;
    if let Some(source) = config.source {
        let source = source.of(requester);
        if source.is_ipv4() != target.is_ipv4() {
            return Err(io::Error::from_raw_os_error(NO_SUCH_FAMILY));
        }
        // The kernel chooses the port at the connect instead of the bind: connections to several targets can
        // share one port. A kernel without this option chooses at the bind.
        #[cfg(target_os = "linux")]
        let _ = nix::sys::socket::setsockopt(socket, nix::sys::socket::sockopt::IpBindAddressNoPort, &true);
        socket.bind(&source.into())?;
    }
    let Err(error) = uninterrupted(|| socket.connect(&target.into())) else { return Ok(()) };
    match Errno::from_io_error(&error) {
        Some(Errno::INPROGRESS) => Ok(()),
        // No route leads from this requester's address to the target. That is no failure of the target.
        Some(Errno::INVAL | Errno::NETUNREACH) if config.source == Some(Source::Requester) => {
            Err(Errno::ADDRNOTAVAIL.into())
        }
        _ => Err(error),
    }
}

/// Returns the PROXY header, which gives the target the requester's address. Without the local address of the
/// requester's socket, the header has no addresses.
pub(crate) fn proxy_header(version: ProxyProtocol, requester: &TcpStream, address: SocketAddr) -> Vec<u8> {
    let header = match requester.local_addr() {
        Ok(local) => ProxyHeader::with_address(ProxiedAddress::stream(canonical(address), canonical(local))),
        Err(_) => ProxyHeader::with_local(),
    };
    let mut bytes = Vec::new();
    let encoded = match version {
        ProxyProtocol::V1 => header.encode_v1(&mut bytes),
        ProxyProtocol::V2 => header.encode_v2(&mut bytes),
    };
    debug_assert!(encoded.is_ok());
    bytes
}
