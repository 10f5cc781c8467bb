//! The send queue of a TCP socket: bytes written that the peer's kernel has not acknowledged.
//!
//! A slow reader can leave megabytes there for many seconds, and its session is not idle while they
//! move. `SIOCOUTQ` (tcp(7)) asks the socket itself. It needs no other descriptor, no kernel module and no
//! address, so it works alike in every network namespace, on every interface and in a sandbox.

use std::os::fd::BorrowedFd;

/// Returns the length of the send queue in bytes; `None`: the kernel does not say. A FIN that is not
/// acknowledged counts as one byte.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)] // The only place: no library has this call as a safe function.
pub(crate) fn unacknowledged(socket: BorrowedFd<'_>) -> Option<u32> {
    use std::os::fd::AsRawFd as _;

    use nix::libc::{TIOCOUTQ, c_int, ioctl};

    let mut length: c_int = 0;
    // SAFETY: `SIOCOUTQ`, which Linux numbers as `TIOCOUTQ` on every architecture, writes one
    // `c_int` through its argument and keeps nothing. `length` is one, lives until the call has
    // returned, and nothing else refers to it. The borrow keeps the descriptor open meanwhile; on
    // a descriptor of another kind the kernel answers with an error or with a `c_int` as well.
    let result = unsafe { ioctl(socket.as_raw_fd(), TIOCOUTQ, &raw mut length) };
    if result == 0 { u32::try_from(length).ok() } else { None }
}

/// Returns `None`, because the relay does not ask this system.
#[cfg(not(target_os = "linux"))]
pub(crate) fn unacknowledged(_: BorrowedFd<'_>) -> Option<u32> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    use super::*;
    use crate::skip::skipped;

    fn assert_unread_bytes_are_counted(listener: &TcpListener) {
        let mut sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (_reader, _) = listener.accept().unwrap();
        assert_eq!(unacknowledged(sender.as_fd()), Some(0));
        sender.set_nonblocking(true).unwrap();
        while sender.write(&[0; 4096]).is_ok() {}
        assert!(unacknowledged(sender.as_fd()).unwrap() > 65536);
    }

    #[test]
    fn bytes_that_an_ipv4_peer_does_not_take_are_counted() {
        assert_unread_bytes_are_counted(&TcpListener::bind("127.0.0.1:0").unwrap());
    }

    #[test]
    fn bytes_that_an_ipv6_peer_does_not_take_are_counted() {
        match TcpListener::bind("[::1]:0") {
            Ok(listener) => assert_unread_bytes_are_counted(&listener),
            Err(error) => skipped(format_args!("no IPv6 on this machine: {error}")),
        }
    }

    #[test]
    fn a_descriptor_without_a_send_queue_gets_no_length() {
        assert_eq!(unacknowledged(std::fs::File::open("/").unwrap().as_fd()), None);
        // A listener has a backlog, and no send queue.
        assert_eq!(unacknowledged(TcpListener::bind("127.0.0.1:0").unwrap().as_fd()), None);
    }
}
