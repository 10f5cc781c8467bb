//! The targets behind the first one.

use crate::config::error::ConfigError;
use crate::config::setters::invalid;
use crate::config::{Config, Target};
use crate::limits::BACKUPS_MAX;

/// Returns the targets that `--backup` takes.
pub(crate) fn backup_taken() -> String {
    format!(
        "up to {BACKUPS_MAX} targets, each another IPv4 or IPv6 address, with a port as in 192.0.2.8:80 or \
         [2001:db8::8]:80, a link-local one as in [fe80::1%eth0]:80"
    )
}

impl Config {
    /// Adds a target that sessions go on to where those before it cannot be reached: `--backup`.
    ///
    /// # Errors
    /// [`set_target`](Self::set_target) would refuse it, it is among the targets already, or there are 7.
    pub fn add_backup(&mut self, target: impl Into<Target>) -> Result<&mut Self, ConfigError> {
        let target = target.into();
        // A backup has the port of a target that was not read, as its own.
        let suits = target.host.can_be_connected_to() && (target.port != 0 || self.target.port == 0);
        let is_new = self.targets().all(|other| other != target);
        if !suits || !is_new || self.backups.len() == BACKUPS_MAX {
            return Err(invalid("--backup", &target, backup_taken()));
        }
        self.backups.push(target);
        Ok(self)
    }
}
