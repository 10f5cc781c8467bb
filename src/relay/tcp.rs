//! TCP sockets as a session's streams.

use std::io::{self, Write};
use std::os::fd::AsFd as _;

use mio::net::TcpStream;
use rustix::buffer::spare_capacity;
use rustix::net::{RecvFlags, recv};
use socket2::SockRef;

#[cfg(target_os = "linux")]
use crate::limits::UNSENT_BESIDE_INTERACTIVE;
use crate::session::stream::{Readiness, Stream};
use crate::sys::outq;
use crate::sys::pipe::Pipe;

impl Stream for TcpStream {
    fn read(&mut self, room: &mut Vec<u8>) -> io::Result<usize> {
        let (count, _) = recv(&*self, spare_capacity(room), RecvFlags::empty())?;
        Ok(count)
    }

    fn write(&mut self, bytes: &[u8], eof_follows: bool) -> io::Result<usize> {
        // MSG_MORE lets the last bytes wait for the FIN, which saves a packet for each EOF.
        #[cfg(target_os = "linux")]
        if eof_follows {
            use rustix::net::{SendFlags, send};
            return Ok(send(&*self, bytes, SendFlags::NOSIGNAL | SendFlags::MORE)?);
        }
        #[cfg(not(target_os = "linux"))]
        let _ = eof_follows;
        Write::write(self, bytes)
    }

    fn fill(&mut self, pipe: &Pipe, count: usize) -> io::Result<usize> {
        pipe.fill(&*self, count)
    }

    fn drain(&mut self, pipe: &Pipe, count: usize) -> io::Result<usize> {
        pipe.drain(&*self, count)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.shutdown(std::net::Shutdown::Write)
    }

    fn has_peer(&self) -> bool {
        self.peer_addr().is_ok()
    }

    fn take_error(&self) -> io::Result<Option<io::Error>> {
        TcpStream::take_error(self)
    }

    fn send_at_once(&mut self) {
        // If it fails, small writes go out late.
        let _ = self.set_nodelay(true);
    }

    fn limit_unsent(&mut self, limited: bool) {
        // 0 stands for the system's own limit. If it fails, interactive traffic may wait longer.
        #[cfg(target_os = "linux")]
        let _ =
            SockRef::from(&*self).set_tcp_notsent_lowat(if limited { UNSENT_BESIDE_INTERACTIVE } else { 0 });
        #[cfg(not(target_os = "linux"))]
        let _ = limited;
    }

    fn reset_on_close(&mut self) {
        // If it fails, the close is an orderly one, as there is no other way to abort.
        let _ = SockRef::from(&*self).set_linger(Some(std::time::Duration::ZERO));
    }

    fn unacknowledged(&self) -> Option<u32> {
        outq::unacknowledged(self.as_fd())
    }

    fn certain_room(&self) -> usize {
        let (Ok(limit), Some(queued)) = (SockRef::from(self).send_buffer_size(), self.unacknowledged())
        else {
            return 0;
        };
        // The limit counts the kernel's own structures as well as the bytes. Half of it is a safe
        // share for the bytes.
        (limit / 2).saturating_sub(queued as usize)
    }
}

impl From<&mio::event::Event> for Readiness {
    fn from(event: &mio::event::Event) -> Self {
        // These are hints. The reads and writes that follow find out the facts.
        let closed = event.is_read_closed() || event.is_write_closed() || event.is_error();
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let urgent = event.is_priority();
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        let urgent = true;
        Self {
            readable: event.is_readable() || closed || urgent,
            writable: event.is_writable() || event.is_write_closed() || event.is_error(),
            marked: closed || urgent,
            failed: event.is_error(),
            eof: event.is_readable() && event.is_read_closed() && !event.is_error() && !urgent,
        }
    }
}
