//! The listening socket of the status, over TCP or at a path.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::config::status::StatusAddress;
use crate::limits::STATUS_BACKLOG;
use crate::sys::uninterrupted;

/// A listening socket. Dropping it removes the file of a Unix socket.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) socket: Socket,
    _file: Option<SocketFile>,
}

impl Listener {
    /// Listens at `place`.
    ///
    /// # Errors
    /// The place is taken, is not this host's, or may not be listened on.
    pub(super) fn bind(place: &StatusAddress) -> io::Result<Self> {
        let (socket, file) = match place {
            StatusAddress::Tcp(address) => (bind_tcp(*address)?, None),
            StatusAddress::Unix(path) => {
                let (socket, file) = bind_unix(path)?;
                (socket, Some(file))
            }
        };
        socket.listen(STATUS_BACKLOG)?;
        Ok(Self { socket, _file: file })
    }

    /// Accepts a connection, whose socket does not block.
    pub(super) fn accept(&self) -> io::Result<Socket> {
        let (socket, _) = uninterrupted(|| self.socket.accept())?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<Socket> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    if domain == Domain::IPV6 {
        // `::` serves IPv4 as well, as it does for requesters.
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Binds to a path. The socket file of a dead process is removed first, and no other file.
fn bind_unix(path: &Path) -> io::Result<(Socket, SocketFile)> {
    let address = SockAddr::unix(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    if is_stale(path, &address) {
        fs::remove_file(path)?;
    }
    socket.bind(&address)?;
    let file = SocketFile { path: path.to_owned(), identity: identity(path) };
    Ok((socket, file))
}

/// Returns whether the path is a socket that no process listens on.
fn is_stale(path: &Path, address: &SockAddr) -> bool {
    if !fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket()) {
        return false;
    }
    let knock = || {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        // A full backlog must not block the start.
        socket.set_nonblocking(true)?;
        socket.connect(address)
    };
    knock().is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// The file of a Unix socket.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// The device and the inode; `None`: unknown, and the file is not removed.
    identity: Option<(u64, u64)>,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Another process may have put its own file there.
        if self.identity.is_some() && identity(&self.path) == self.identity {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Returns the device and the inode of a file.
fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|file| (file.dev(), file.ino()))
}
