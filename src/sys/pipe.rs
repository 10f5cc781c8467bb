//! A pipe between two sockets, through which bytes pass without entering the process.

pub use kernel::Pipe;

#[cfg(target_os = "linux")]
mod kernel {
    use std::io;
    use std::os::fd::{AsFd, OwnedFd};

    use rustix::buffer::spare_capacity;
    use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with, splice};

    // Never SPLICE_F_MORE: it holds the last bytes of a message back for 200 ms.
    const FLAGS: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);

    /// Both ends of a pipe.
    #[derive(Debug)]
    pub struct Pipe {
        read: OwnedFd,
        write: OwnedFd,
        capacity: u32,
    }

    impl Pipe {
        /// Makes a pipe of `bytes` bytes, or of the size that the kernel chose if it refuses that many.
        pub(crate) fn new(bytes: usize) -> io::Result<Self> {
            let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
            let capacity = match fcntl_setpipe_size(&write, bytes) {
                Ok(capacity) => capacity,
                Err(_) => fcntl_getpipe_size(&write)?,
            };
            let capacity = u32::try_from(capacity).unwrap_or(u32::MAX);
            Ok(Self { read, write, capacity })
        }

        /// Returns the bytes that one fill may bring.
        #[must_use]
        pub fn capacity(&self) -> usize {
            self.capacity as usize
        }

        /// Moves up to `count` bytes from `socket` into the empty pipe.
        ///
        /// # Errors
        /// Those of splice(2).
        pub fn fill(&self, socket: impl AsFd, count: usize) -> io::Result<usize> {
            Ok(splice(socket, None, &self.write, None, count.min(self.capacity()), FLAGS)?)
        }

        /// Moves up to `count` bytes out of the pipe into `socket`.
        ///
        /// # Errors
        /// Those of splice(2).
        pub fn drain(&self, socket: impl AsFd, count: usize) -> io::Result<usize> {
            Ok(splice(&self.read, None, socket, None, count, FLAGS)?)
        }

        /// Copies bytes out of the pipe, behind those in `room` and up to its capacity.
        ///
        /// # Errors
        /// Those of read(2).
        pub fn read(&self, room: &mut Vec<u8>) -> io::Result<usize> {
            Ok(rustix::io::read(&self.read, spare_capacity(room))?)
        }

        /// Copies bytes into the pipe, as a test's stand-in for [`fill`](Self::fill).
        ///
        /// # Errors
        /// Those of write(2).
        pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
            Ok(rustix::io::write(&self.write, bytes)?)
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod kernel {
    use std::io;
    use std::os::fd::AsFd;

    /// There is no splice(2) here, so there is never a pipe.
    #[derive(Debug)]
    pub enum Pipe {}

    #[allow(missing_docs, clippy::missing_errors_doc)]
    impl Pipe {
        pub(crate) fn new(_: usize) -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }

        #[must_use]
        pub fn capacity(&self) -> usize {
            match *self {}
        }

        pub fn fill(&self, _: impl AsFd, _: usize) -> io::Result<usize> {
            match *self {}
        }

        pub fn drain(&self, _: impl AsFd, _: usize) -> io::Result<usize> {
            match *self {}
        }

        pub fn read(&self, _: &mut Vec<u8>) -> io::Result<usize> {
            match *self {}
        }

        pub fn write(&self, _: &[u8]) -> io::Result<usize> {
            match *self {}
        }
    }
}
