//! The privileges that the relay gives up once its port is bound.

use crate::config::Config;
use crate::config::setters::invalid;
use crate::log::Sink;
use crate::log::message::Message;
use crate::relay::Relay;
use crate::relay::error::StartError;
use crate::relay::target::names::Files;
use crate::relay::target::way;
use crate::sys::privileges::{Left, give_up};

/// The directories that `--chroot` takes if a target is a name, in words.
const WITH_NAMES_TAKES: &str = "a folder with an etc/hosts or an etc/resolv.conf that the relay may read, as --resolve \
                                looks names up there";

impl<S: Sink> Relay<S> {
    /// Gives up privileges as [`give_up_privileges`] does. The relay logs its message 126 when it starts.
    ///
    /// # Errors
    /// The system does not permit it (132), or the root directory lacks the files for looking names up (112). Some
    /// privileges may be gone.
    pub fn give_up_privileges(&mut self) -> Result<(), StartError> {
        if let Some(status) = self.status.as_mut().filter(|_| self.config.privileges.chroot.is_some()) {
            status.prepare_for_root();
        }
        self.given_up = give_up_privileges(&self.config)?;
        Ok(())
    }
}

/// Gives up the privileges of the calling thread for good, as `--user` and `--chroot` say. Returns message 126, which
/// reports those that are left. `None`: neither option was given, and nothing is changed.
///
/// Other threads would keep their privileges, and so would the process. Call this while there is one thread.
///
/// # Errors
/// The system does not permit it (132), or the root directory lacks the files for looking names up (112). Some
/// privileges may be gone.
pub fn give_up_privileges(config: &Config) -> Result<Option<Message>, StartError> {
    let privileges = &config.privileges;
    if privileges.user.is_none() && privileges.chroot.is_none() {
        return Ok(None);
    }
    let root = privileges.chroot.as_deref();
    let user = privileges.user.map(|user| (user.uid(), user.gid()));
    let unavailable = |(option, source)| StartError::OptionUnavailable { option, source };
    let Left { uid, gid } = give_up(root, user, config.needs_net_admin()).map_err(unavailable)?;
    // On old kernels, an option may need more privileges than were kept.
    way::check(config)?;
    if let Some(root) = root
        && config.targets().any(|target| target.address().is_none())
        && !Files::default().can_be_read()
    {
        return Err(StartError::Config(invalid("--chroot", &root, WITH_NAMES_TAKES.into())));
    }
    let capabilities = if config.needs_net_admin() { "CAP_NET_ADMIN" } else { "none" };
    Ok(Some(Message::PrivilegesDropped { uid, gid, root: root.unwrap_or("/").into(), capabilities }))
}
