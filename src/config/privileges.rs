//! The privileges that a relay gives up once it listens: the user, the root directory.

use std::path::Path;
use std::str::FromStr;
use std::{fmt, fs};

use crate::config::Config;
use crate::config::error::ConfigError;
use crate::config::setters::invalid;
use crate::config::way::Source;

/// The values that `--chroot` takes.
pub(crate) const CHROOT_TAKES: &str = "a directory, from the root on";

/// The user and the root directory. None: they stay as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Privileges {
    /// `--user`.
    pub(crate) user: Option<User>,
    /// `--chroot`.
    pub(crate) chroot: Option<String>,
}

/// A user other than root, and a group, by their numbers.
///
/// Its text is `NAME` or `UID`, and `:GROUP` or `:GID` where the group is not the user's own. Names are looked
/// up in `/etc/passwd` and `/etc/group`, and nowhere else. `Display` writes the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    uid: u32,
    gid: u32,
}

/// The text names no user, no group, or root.
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
    /// Returns the user and the group of these numbers. None: the user is root, or a number stands for none.
    #[must_use]
    pub fn new(uid: u32, gid: u32) -> Option<Self> {
        // The largest number means "no change" to the kernel.
        let is_valid = uid != 0 && uid != u32::MAX && gid != u32::MAX;
        is_valid.then_some(Self { uid, gid })
    }

    /// Returns the number of the user.
    #[must_use]
    pub fn uid(self) -> u32 {
        self.uid
    }

    /// Returns the number of the group.
    #[must_use]
    pub fn gid(self) -> u32 {
        self.gid
    }

    /// Reads a user. Names are looked up in the lines of the files that `file` returns.
    fn read(text: &str, file: impl Fn(&str) -> String) -> Option<Self> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        // A number with a group needs no file.
        if let (Some(uid), Some(gid)) = (number(user), group.and_then(number)) {
            return Self::new(uid, gid);
        }
        // Lines are name:password:uid:gid, and name:password:gid.
        let users = file("/etc/passwd");
        let key = if number(user).is_some() { 2 } else { 0 };
        let uid = number(user).or_else(|| number(field(&users, key, user, 2)?))?;
        let gid = match group {
            None => number(field(&users, key, user, 3)?)?,
            Some(group) => match number(group) {
                Some(gid) => gid,
                None => number(field(&file("/etc/group"), 0, group, 2)?)?,
            },
        };
        Self::new(uid, gid)
    }
}

/// Returns the field `wanted` of the first line that has `value` as its field `key`.
fn field<'a>(lines: &'a str, key: usize, value: &str, wanted: usize) -> Option<&'a str> {
    let line = lines.lines().find(|line| line.split(':').nth(key) == Some(value))?;
    line.split(':').nth(wanted)
}

fn number(text: &str) -> Option<u32> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

/// Returns a file's text. A file that cannot be read has no lines.
fn file(path: &str) -> String {
    // The names that people have need not be UTF-8.
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// Returns whether there is a directory of this path, which begins at the root and can be logged.
fn is_directory(text: &str) -> bool {
    let path = Path::new(text);
    path.is_absolute() && path.is_dir() && !text.contains(char::is_control)
}

impl Config {
    /// Sets the user and the group that [`Relay::give_up_privileges`](crate::Relay::give_up_privileges)
    /// changes to: `--user`. None: it stays as it is.
    pub fn set_user(&mut self, user: Option<User>) -> &mut Self {
        self.privileges.user = user;
        self
    }

    /// Sets the root directory that [`Relay::give_up_privileges`](crate::Relay::give_up_privileges) changes
    /// to: `--chroot`. None: it stays as it is.
    ///
    /// # Errors
    /// There is no such directory, its path does not begin at the root, or it is no UTF-8.
    pub fn set_chroot(&mut self, directory: Option<&Path>) -> Result<&mut Self, ConfigError> {
        let checked = |path: &Path| match path.to_str() {
            Some(text) if is_directory(text) => Ok(text.into()),
            _ => Err(invalid("--chroot", &path.display(), CHROOT_TAKES.into())),
        };
        self.privileges.chroot = directory.map(checked).transpose()?;
        Ok(self)
    }

    /// Returns the user to change to. None: it stays as it is.
    #[must_use]
    pub fn user(&self) -> Option<User> {
        self.privileges.user
    }

    /// Returns the root directory to change to. None: it stays as it is.
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

    /// What these files make of a text.
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
    fn a_user_is_known_by_name_or_number_and_has_its_own_group_unless_another_is_given() {
        for (text, user) in [
            ("web", (33, 34)),
            ("33", (33, 34)),
            ("web:logs", (33, 4)),
            ("33:last", (33, 9)),
            ("web:7", (33, 7)),
            ("web:0", (33, 0)),
            ("1234:5678", (1234, 5678)),
            ("1234:logs", (1234, 4)),
            // Digits are a number.
            ("78", (78, 78)),
        ] {
            assert_eq!(read(text), Some(user), "{text}");
        }
    }

    #[test]
    fn root_unknown_users_and_groups_and_what_is_no_number_are_refused() {
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
    fn a_root_directory_is_there_and_its_path_is_absolute() {
        let mut config = Config::without_addresses();
        for path in ["", "tmp", "/no/such/directory", "/etc/passwd", "/\n"] {
            assert!(config.set_chroot(Some(Path::new(path))).is_err(), "{path:?}");
        }
        assert_eq!(config.chroot(), None);
        let root = Some(Path::new("/"));
        assert_eq!(config.set_chroot(root).unwrap().chroot(), root);
    }
}
