//! Giving up privileges for good. The calls affect only the calling thread, so the process must have no other.

use std::io;

/// The privileges that are left to the thread.
pub(crate) struct Left {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// Changes the root directory and the user, and gives up every capability but `CAP_NET_ADMIN`, which may be kept.
/// No program that this one starts gets more privileges.
///
/// # Errors
/// The option that failed, and the system's error. Some privileges may already be gone.
#[cfg(target_os = "linux")]
pub(crate) fn give_up(
    root: Option<&str>,
    user: Option<(u32, u32)>,
    keeps_net_admin: bool,
) -> Result<Left, (&'static str, io::Error)> {
    use rustix::thread::set_no_new_privs;

    if let Some(root) = root {
        change_root(root).map_err(|error| ("--chroot", error))?;
    }
    let option = if user.is_some() { "--user" } else { "--chroot" };
    let failed = |error: io::Error| (option, error);
    empty_bounding_set();
    if let Some((uid, gid)) = user {
        become_user(uid, gid).map_err(failed)?;
    }
    keep_capabilities(keeps_net_admin).map_err(failed)?;
    set_no_new_privs(true).map_err(|error| failed(error.into()))?;
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    Ok(Left { uid, gid })
}

#[cfg(target_os = "linux")]
fn change_root(directory: &str) -> io::Result<()> {
    rustix::process::chroot(directory)?;
    Ok(rustix::process::chdir("/")?)
}

/// Keeps programs that this one starts from getting capabilities. If the thread lacks the privilege for this call,
/// `no_new_privs` alone keeps them from it.
#[cfg(target_os = "linux")]
fn empty_bounding_set() {
    use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};

    // The kernel refuses the number after its last capability.
    for number in 0..u64::BITS {
        if remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << number)).is_err() {
            return;
        }
    }
}

/// Changes the user and the group, and drops all supplementary groups. Permitted capabilities stay permitted.
#[cfg(target_os = "linux")]
fn become_user(uid: u32, gid: u32) -> io::Result<()> {
    use rustix::process::{Gid, Uid};
    use rustix::thread::{set_keep_capabilities, set_thread_groups, set_thread_res_gid, set_thread_res_uid};

    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    set_keep_capabilities(true)?;
    set_thread_groups(&[])?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)?;
    Ok(set_keep_capabilities(false)?)
}

/// Gives up all capabilities. With `net_admin`, keeps `CAP_NET_ADMIN` if it is permitted.
#[cfg(target_os = "linux")]
fn keep_capabilities(net_admin: bool) -> io::Result<()> {
    use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

    let kept = if net_admin { CapabilitySet::NET_ADMIN } else { CapabilitySet::empty() };
    let kept = kept & capabilities(None)?.permitted;
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    Ok(set_capabilities(None, sets)?)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn give_up(
    root: Option<&str>,
    _: Option<(u32, u32)>,
    _: bool,
) -> Result<Left, (&'static str, io::Error)> {
    let option = if root.is_some() { "--chroot" } else { "--user" };
    Err((option, io::ErrorKind::Unsupported.into()))
}
