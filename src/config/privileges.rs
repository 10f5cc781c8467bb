//! The privileges that a relay gives up once it listens: its user and its root directory.

use std::path::Path;
use std::str::FromStr;
use std::{fmt, fs};

use crate::config::error::ConfigError;
use crate::config::setters::invalid;
use crate::config::way::Source;
use crate::config::{Config, decimal};

/// The values that `--chroot` takes.
pub(crate) const CHROOT_TAKES: &str = "a directory, from the root on";

/// The user and the root directory to change to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Privileges {
    /// `--user`. None: the relay keeps its user.
    pub(crate) user: Option<User>,
    /// `--chroot`. None: the relay keeps its root directory.
    pub(crate) chroot: Option<String>,
}

/// A user other than root, and a group, by their ids.
///
/// Its text is `NAME` or `UID`, and `:GROUP` or `:GID` where the group is not the user's own. Names are looked
/// up in `/etc/passwd` and `/etc/group`, and nowhere else. `Display` writes the ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    uid: u32,
    gid: u32,
}

/// The text names root, or a user or a group that does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidUser;

impl fmt::Display for InvalidUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no user other than root, or no group")
    }
}

impl std::error::Error for InvalidUser {}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.uid, self.gid)
    }
}

impl FromStr for User {
    type Err = InvalidUser;

    fn from_str(text: &str) -> Result<Self, InvalidUser> {
        Self::read(text, file).ok_or(InvalidUser)
    }
}

impl User {
    /// Returns the user and the group with these ids. None: the user is root, or an id is `u32::MAX`.
    #[must_use]
    pub fn new(uid: u32, gid: u32) -> Option<Self> {
        // To the kernel, the largest id means "no change".
        let is_valid = uid != 0 && uid != u32::MAX && gid != u32::MAX;
        is_valid.then_some(Self { uid, gid })
    }

    /// Returns the user's id.
    #[must_use]
    pub fn uid(self) -> u32 {
        self.uid
    }

    /// Returns the group's id.
    #[must_use]
    pub fn gid(self) -> u32 {
        self.gid
    }

    /// Reads a user. Looks names up in the text that `file` returns for a path.
    fn read(text: &str, file: impl Fn(&str) -> String) -> Option<Self> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        // Two ids need no file.
        if let (Some(uid), Some(gid)) = (decimal(user), group.and_then(decimal)) {
            return Self::new(uid, gid);
        }
        // A line is name:password:uid:gid in passwd, and name:password:gid in group.
        let users = file("/etc/passwd");
        let key = if decimal::<u32>(user).is_some() { 2 } else { 0 };
        let uid = decimal(user).or_else(|| decimal(field(&users, key, user, 2)?))?;
        let gid = match group {
            None => decimal(field(&users, key, user, 3)?)?,
            Some(group) => match decimal(group) {
                Some(gid) => gid,
                None => decimal(field(&file("/etc/group"), 0, group, 2)?)?,
            },
        };
        Self::new(uid, gid)
    }
}

/// Returns field `wanted` of the first line whose field `key` is `value`.
fn field<'a>(lines: &'a str, key: usize, value: &str, wanted: usize) -> Option<&'a str> {
    let line = lines.lines().find(|line| line.split(':').nth(key) == Some(value))?;
    line.split(':').nth(wanted)
}

/// Returns a file's text, or an empty one if the file cannot be read.
fn file(path: &str) -> String {
    // The real names in /etc/passwd need not be UTF-8.
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// Returns whether the text is the absolute path of a directory, and can be logged.
fn is_directory(text: &str) -> bool {
    let path = Path::new(text);
    path.is_absolute() && path.is_dir() && !text.contains(char::is_control)
}

impl Config {
    /// Sets the user and the group that [`Relay::give_up_privileges`](crate::Relay::give_up_privileges)
    /// changes to: `--user`. None: the relay keeps its user.
    pub fn set_user(&mut self, user: Option<User>) -> &mut Self {
        self.privileges.user = user;
        self
    }

    /// Sets the root directory that [`Relay::give_up_privileges`](crate::Relay::give_up_privileges) changes
    /// to: `--chroot`. None: the relay keeps its root directory.
    ///
    /// # Errors
    /// There is no such directory, or its path is relative, has control characters, or is not UTF-8.
    pub fn set_chroot(&mut self, directory: Option<&Path>) -> Result<&mut Self, ConfigError> {
        let checked = |path: &Path| match path.to_str() {
            Some(text) if is_directory(text) => Ok(text.into()),
            _ => Err(invalid("--chroot", &path.display(), CHROOT_TAKES.into())),
        };
        self.privileges.chroot = directory.map(checked).transpose()?;
        Ok(self)
    }

    /// Returns the user to change to. None: the relay keeps its user.
    #[must_use]
    pub fn user(&self) -> Option<User> {
        self.privileges.user
    }

    /// Returns the root directory to change to. None: the relay keeps its root directory.
    #[must_use]
    pub fn chroot(&self) -> Option<&Path> {
        self.privileges.chroot.as_deref().map(Path::new)
    }

    /// Returns whether each session needs `CAP_NET_ADMIN`.
    pub(crate) fn needs_net_admin(&self) -> bool {
        self.way.mark.is_some() || self.source == Some(Source::Requester)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the user that the text stands for, by a passwd and a group file.
    fn read(text: &str) -> Option<(u32, u32)> {
        let file = |path: &str| match path {
            "/etc/passwd" => "root:x:0:0:root:/root:/bin/sh\nbroken\n\nweb:x:33:34:a:b c\nweb:x:35:35::\n\
                              77:x:78:78::\nodd:x:+5:5::\nfull:x:4294967295:1::\nlong:x:4294967296:1::"
                .into(),
            "/etc/group" => "root:x:0:\nlogs:x:4:web\nnone:x\nlast:x:9:".into(),
            _ => String::new(),
        };
        User::read(text, file).map(|user| (user.uid(), user.gid()))
    }

    #[test]
    fn a_user_is_given_by_name_or_id_and_has_its_own_group_unless_another_is_given() {
        for (text, user) in [
            ("web", (33, 34)),
            ("33", (33, 34)),
            ("web:logs", (33, 4)),
            ("33:last", (33, 9)),
            ("web:7", (33, 7)),
            ("web:0", (33, 0)),
            ("1234:5678", (1234, 5678)),
            ("1234:logs", (1234, 4)),
            // Digits are an id, although a user's name is 77.
            ("78", (78, 78)),
        ] {
            assert_eq!(read(text), Some(user), "{text}");
        }
    }

    #[test]
    fn root_and_unknown_or_malformed_users_and_groups_are_refused() {
        for text in [
            "",
            ":",
            "root",
            "0",
            "0:5",
            "root:logs",
            "web:",
            ":logs",
            "web:nobody",
            "web:none",
            "other",
            "34",
            "77",
            "1234",
            "1234:other",
            "odd",
            "+33:4",
            "33:+4",
            "-1:4",
            "full",
            "long",
            "4294967295:1",
            "1:4294967295",
            "1:4294967296",
            "web:logs:4",
            "broken",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn a_root_directory_exists_and_its_path_is_absolute() {
        let mut config = Config::without_addresses();
        for path in ["", "tmp", "/no/such/directory", "/etc/passwd", "/\n"] {
            assert!(config.set_chroot(Some(Path::new(path))).is_err(), "{path:?}");
        }
        assert_eq!(config.chroot(), None);
        let root = Some(Path::new("/"));
        assert_eq!(config.set_chroot(root).unwrap().chroot(), root);
    }
}
