//! What still waits inside the kernel: bytes written that the peer has not acknowledged.
//!
//! A slow reader can leave megabytes in a socket's send queue for many seconds. Its session is
//! not idle while they move. The kernel's socket diagnostics (`sock_diag(7)`) tell the length of
//! that queue; it is asked only when a session has been silent after it wrote a good deal.

use std::net::SocketAddr;

/// Asks for the length of send queues.
#[derive(Debug, Default)]
pub struct KernelQueue {
    /// The netlink socket, opened at the first question.
    #[cfg(target_os = "linux")]
    socket: Option<std::os::fd::OwnedFd>,
}

#[cfg(not(target_os = "linux"))]
impl KernelQueue {
    /// Bytes that the connection's local end has sent and the peer has not acknowledged; `None`
    /// where that cannot be told, as here.
    pub fn unacknowledged(&mut self, _local: SocketAddr, _peer: SocketAddr) -> Option<u32> {
        None
    }
}

#[cfg(target_os = "linux")]
impl KernelQueue {
    /// Bytes that the connection's local end has sent and the peer has not acknowledged; `None`
    /// where that cannot be told.
    pub fn unacknowledged(&mut self, local: SocketAddr, peer: SocketAddr) -> Option<u32> {
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => linux::open().ok()?,
        };
        // The socket is kept only if it answered: a late answer must not meet the next question.
        let queue = linux::ask(&socket, local, peer).ok()?;
        self.socket = Some(socket);
        queue
    }
}

/// `struct inet_diag_req_v2` and `struct inet_diag_msg` of `linux/inet_diag.h`, behind the
/// `struct nlmsghdr` of `linux/netlink.h`. Numbers are in the host's order, ports and addresses in
/// the network's.
#[cfg(target_os = "linux")]
mod linux {
    use std::net::{IpAddr, SocketAddr};
    use std::os::fd::OwnedFd;

    use rustix::io::Result;
    use rustix::net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
    };

    const HEADER_BYTES: usize = 16;
    const REQUEST_BYTES: usize = HEADER_BYTES + 56;
    const REQUEST_LENGTH: u32 = 72;
    const _: () = assert!(REQUEST_LENGTH as usize == REQUEST_BYTES);
    /// Where the reply holds `idiag_wqueue`: behind four bytes, the 48 of the socket's identity,
    /// `idiag_expires` and `idiag_rqueue`.
    const SEND_QUEUE: std::ops::Range<usize> = HEADER_BYTES + 60..HEADER_BYTES + 64;
    const SOCK_DIAG_BY_FAMILY: u16 = 20;
    const NLM_F_REQUEST: u16 = 1;
    const AF_INET: u8 = 2;
    const AF_INET6: u8 = 10;
    const IPPROTO_TCP: u8 = 6;

    pub(super) fn open() -> Result<OwnedFd> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(netlink::SOCK_DIAG))
    }

    /// The kernel answers within `send`; `Ok(None)` if it does not know the connection.
    pub(super) fn ask(socket: &OwnedFd, local: SocketAddr, peer: SocketAddr) -> Result<Option<u32>> {
        send(socket, &request(local, peer), SendFlags::DONTWAIT)?;
        let mut reply = [0; 512];
        let (count, _) = recv(socket, &mut reply, RecvFlags::DONTWAIT)?;
        let kind = reply[..count].get(4..6).and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes);
        let queue = reply[..count].get(SEND_QUEUE).and_then(|bytes| bytes.try_into().ok());
        Ok(queue.filter(|_| kind == Some(SOCK_DIAG_BY_FAMILY)).map(u32::from_ne_bytes))
    }

    fn request(local: SocketAddr, peer: SocketAddr) -> [u8; REQUEST_BYTES] {
        let (local_ip, peer_ip) = (local.ip().to_canonical(), peer.ip().to_canonical());
        let family = if local_ip.is_ipv4() { AF_INET } else { AF_INET6 };
        let mut request = [0; REQUEST_BYTES];
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            request[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        put(&REQUEST_LENGTH.to_ne_bytes());
        put(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        put(&NLM_F_REQUEST.to_ne_bytes());
        put(&[0; 8]); // sequence number and sender: one question at a time needs neither
        put(&[family, IPPROTO_TCP, 0, 0]);
        put(&u32::MAX.to_ne_bytes()); // in any state
        put(&local.port().to_be_bytes());
        put(&peer.port().to_be_bytes());
        put(&address(local_ip));
        put(&address(peer_ip));
        put(&0_u32.to_ne_bytes()); // on any interface
        put(&[0xff; 8]); // no cookie
        debug_assert_eq!(at, REQUEST_BYTES);
        request
    }

    fn address(ip: IpAddr) -> [u8; 16] {
        match ip {
            IpAddr::V4(ip) => {
                let mut padded = [0; 16];
                padded[..4].copy_from_slice(&ip.octets());
                padded
            }
            IpAddr::V6(ip) => ip.octets(),
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn stuck_bytes(listener: &TcpListener) {
        let mut sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (_reader, _) = listener.accept().unwrap();
        let (local, peer) = (sender.local_addr().unwrap(), sender.peer_addr().unwrap());
        let mut queue = KernelQueue::default();
        assert_eq!(queue.unacknowledged(local, peer), Some(0));
        sender.set_nonblocking(true).unwrap();
        while sender.write(&[0; 4096]).is_ok() {}
        assert!(queue.unacknowledged(local, peer).unwrap() > 65536);
    }

    #[test]
    fn bytes_that_an_ipv4_peer_does_not_take_are_counted() {
        stuck_bytes(&TcpListener::bind("127.0.0.1:0").unwrap());
    }

    #[test]
    fn bytes_that_an_ipv6_peer_does_not_take_are_counted() {
        // A machine without IPv6 has nothing to show here.
        if let Ok(listener) = TcpListener::bind("[::1]:0") {
            stuck_bytes(&listener);
        }
    }

    #[test]
    fn a_connection_that_the_kernel_does_not_know_has_no_queue() {
        let mut queue = KernelQueue::default();
        let nobody = "192.0.2.1:9".parse().unwrap();
        assert_eq!(queue.unacknowledged(nobody, nobody), None);
    }
}
