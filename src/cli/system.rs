//! The rows of the options that depend on the system: interfaces, marks of packets, and privileges.

use std::ffi::OsStr;
use std::num::NonZeroU32;
use std::path::Path;

use super::options::{OptionRow, number, or_takes, taken};
use crate::config::privileges::CHROOT_TAKES;
use crate::config::way::{DSCP_TAKES, INTERFACE_TAKES};

/// The values that `--mark` takes.
const MARK_TAKES: &str = "a number from 1 to 4294967295";
/// The values that `--user` takes.
const USER_TAKES: &str =
    "a user of /etc/passwd other than root, by name or number, also with :GROUP or :GID, or any UID:GID";

pub(super) const SOURCE_INTERFACE: OptionRow = OptionRow {
    name: "--source-interface",
    value: "NAME",
    repeats: false,
    help: "Reach the target through this interface",
    read: |config, text| {
        or_takes(
            text.to_str().and_then(|name| taken(config.set_source_interface(Some(name)))),
            INTERFACE_TAKES,
        )
    },
    write: |config| config.way.source_interface.iter().map(ToString::to_string).collect(),
};

pub(super) const BIND_INTERFACE: OptionRow = OptionRow {
    name: "--bind-interface",
    value: "NAME",
    repeats: false,
    help: "Listen on this interface only",
    read: |config, text| {
        or_takes(text.to_str().and_then(|name| taken(config.set_bind_interface(Some(name)))), INTERFACE_TAKES)
    },
    write: |config| config.way.bind_interface.iter().map(ToString::to_string).collect(),
};

pub(super) const MARK: OptionRow = OptionRow {
    name: "--mark",
    value: "N",
    repeats: false,
    help: "Mark packets to the target, for routing",
    read: |config, text| or_takes(mark(text).map(|mark| _ = config.set_mark(Some(mark))), MARK_TAKES),
    write: |config| config.way.mark.iter().map(ToString::to_string).collect(),
};

pub(super) const DSCP: OptionRow = OptionRow {
    name: "--dscp",
    value: "N",
    repeats: false,
    help: "DSCP of packets to both sides, 0 to 63",
    read: |config, text| or_takes(dscp(text).and_then(|dscp| taken(config.set_dscp(Some(dscp)))), DSCP_TAKES),
    write: |config| config.way.dscp.iter().map(ToString::to_string).collect(),
};

pub(super) const USER: OptionRow = OptionRow {
    name: "--user",
    value: "NAME[:GROUP]",
    repeats: false,
    help: "Become this user once the port is bound",
    read: |config, text| {
        let user = text.to_str().and_then(|text| text.parse().ok());
        or_takes(user.map(|user| _ = config.set_user(Some(user))), USER_TAKES)
    },
    write: |config| config.privileges.user.iter().map(ToString::to_string).collect(),
};

pub(super) const CHROOT: OptionRow = OptionRow {
    name: "--chroot",
    value: "DIR",
    repeats: false,
    help: "See nothing outside of this directory",
    read: |config, text| or_takes(taken(config.set_chroot(Some(Path::new(text)))), CHROOT_TAKES),
    write: |config| config.privileges.chroot.iter().map(ToString::to_string).collect(),
};

fn mark(text: &OsStr) -> Option<NonZeroU32> {
    NonZeroU32::new(number(text)?.try_into().ok()?)
}

fn dscp(text: &OsStr) -> Option<u8> {
    number(text)?.try_into().ok()
}
