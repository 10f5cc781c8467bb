//! The status in a build without the feature `status`: there is no place to serve it.

use std::fmt;
use std::net::SocketAddr;

/// A place to serve the status. Without the feature `status`, no value of this type exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StatusAddress {}

impl fmt::Display for StatusAddress {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {}
    }
}

impl StatusAddress {
    /// Returns the TCP address. None: the place is a path.
    pub(crate) fn tcp(&self) -> Option<SocketAddr> {
        match *self {}
    }
}
