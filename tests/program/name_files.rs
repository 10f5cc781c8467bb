//! Relays with an /etc/hosts and an /etc/resolv.conf of their own, in a mount namespace.

use std::fs;
use std::process::{Command, Stdio};

use crate::name_server::NameServer;
use crate::support::skip::skipped;
use crate::support::{Folder, Start};

/// The name of the target.
pub const NAME: &str = "db.example";

/// The folder of one relay's two files.
pub struct Files(Folder);

impl Files {
    /// Writes the files. Returns None, and prints the reason, where no mount namespace can be made.
    pub fn new(hosts: &str, conf: &str) -> Option<Self> {
        let probe = Command::new("unshare")
            .args(["--mount", "mount", "--bind", "/etc/hosts", "/etc/resolv.conf"])
            .stderr(Stdio::null())
            .status();
        if !probe.is_ok_and(|status| status.success()) {
            skipped("no mount namespace can be had here");
            return None;
        }
        let files = Self(Folder::new());
        files.set_hosts(hosts);
        fs::write(files.0.join("conf"), conf).unwrap();
        Some(files)
    }

    /// Writes files with which a relay sends its queries to `server` only.
    pub fn asking(server: &NameServer) -> Option<Self> {
        Self::new("", &format!("nameserver {}\noptions timeout:1 attempts:1\n", server.address))
    }

    /// Rewrites the hosts file in place, because the relay has this very file mounted.
    pub fn set_hosts(&self, text: &str) {
        fs::write(self.0.join("hosts"), text).unwrap();
    }

    /// Returns the start of a relay to this port of [`NAME`].
    pub fn start(&self, port: u16) -> Start {
        self.start_to(NAME, port)
    }

    pub fn start_to(&self, name: &str, port: u16) -> Start {
        let folder = self.0.path().display();
        Start::to_host(name, &port.to_string()).options("--resolve").shell(&format!(
            "exec unshare --mount sh -c 'mount --bind {folder}/hosts /etc/hosts && \
             mount --bind {folder}/conf /etc/resolv.conf && exec \"$0\" \"$@\"' \"$0\" \"$@\""
        ))
    }
}
