//! The status in a build without the feature `status`: there is none.

use std::io;
use std::time::{Instant, SystemTime};

use mio::net::TcpStream;
use mio::{Registry, Token};

use crate::config::status::StatusAddress;
use crate::log::message::Message;
use crate::pool::Pool;
use crate::relay::Relay;
use crate::relay::error::StartError;

/// The service of the status. No value of this type exists.
#[derive(Debug)]
pub(super) enum Service {}

impl Service {
    pub(super) fn bind(
        place: &StatusAddress,
        _: &Registry,
        _: (SystemTime, Instant),
    ) -> Result<Self, StartError> {
        match *place {}
    }

    pub(super) fn prepare_for_root(&mut self) {
        match *self {}
    }

    pub(super) fn note(&mut self, _: Token) {
        match *self {}
    }

    pub(super) fn is_ready(&self) -> bool {
        match *self {}
    }

    pub(super) fn sample_rates(&mut self, _: Instant, _: &Pool<TcpStream>) {
        match *self {}
    }

    pub(super) fn expire(&mut self, _: Instant, _: &mut Pool<TcpStream>) {
        match *self {}
    }

    pub(super) fn serve<S>(&mut self, _: &mut Relay<S>) {
        match *self {}
    }
}

pub(super) fn unavailable(place: &StatusAddress, _: &io::Error) -> Message {
    match *place {}
}
