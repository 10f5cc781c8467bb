//! The way that packets to the target take, where the command line chooses it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use socket2::Socket;

use crate::config::Config;
use crate::config::way::Source;
use crate::relay::error::StartError;
use crate::relay::target::socket;
use crate::sys::way::{HAS_WAYS, set_dscp, set_interface, set_mark, set_transparent};

/// Prepares a socket for its way to `target`.
///
/// # Errors
/// The option that failed, and the system's error.
pub(super) fn prepare(
    socket: &Socket,
    config: &Config,
    target: SocketAddr,
) -> Result<(), (&'static str, io::Error)> {
    if let Some(name) = &config.way.source_interface {
        set_interface(socket, name).map_err(|error| ("--source-interface", error))?;
    }
    if let Some(mark) = config.way.mark {
        set_mark(socket, mark.get()).map_err(|error| ("--mark", error))?;
    }
    if config.source == Some(Source::Requester) {
        set_transparent(socket, target).map_err(|error| ("--source", error))?;
    }
    match config.way.dscp {
        Some(dscp) => set_dscp(socket, target, dscp).map_err(|error| ("--dscp", error)),
        None => Ok(()),
    }
}

/// Tries the options on a socket that is then closed.
///
/// # Errors
/// Message 132.
#[cold]
pub(crate) fn check(config: &Config) -> Result<(), StartError> {
    if config.way.bind_interface.is_some() && !HAS_WAYS {
        let source = io::ErrorKind::Unsupported.into();
        return Err(StartError::OptionUnavailable { option: "--bind-interface", source });
    }
    // A name may have addresses of both families. IPv4 stands for both.
    let target = config.target().address().unwrap_or((Ipv4Addr::LOCALHOST, config.target().port).into());
    // Without a socket, the options cannot be tried.
    let Ok(socket) = socket(target) else { return Ok(()) };
    prepare(&socket, config, target)
        .map_err(|(option, source)| StartError::OptionUnavailable { option, source })
}
