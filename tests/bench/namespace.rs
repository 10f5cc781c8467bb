//! The kernel's own way: nftables translates addresses (DNAT), in a network namespace that this program
//! makes for itself, so that nothing changes on the host.
//!
//! The whole run happens in that namespace, so all relays are measured alike. The namespace goes with the
//! last process in it.

use std::env;
use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use crate::contestants::find_program;

/// The argument of a program that runs in its own namespace already.
pub const ARGUMENT: &str = "--in-own-namespace";

const TABLE: &str = "tcprelay_peers";

/// Shell commands that bring the namespace's loopback up, and fail if no rules can be added in it.
const PROBE: &str =
    "ip link set lo up && nft add table ip tcprelay_peers && nft delete table ip tcprelay_peers";

/// The time in seconds after which the kernel forgets a connection that has ended, and its file. With the
/// default of two minutes, short connections would fill the connection table.
const FORGET_AFTER: (&str, &str) = ("/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_time_wait", "1");

/// Re-executes the program in a new network namespace, where the system allows one. In the namespace, brings
/// the loopback up.
pub fn enter() -> io::Result<()> {
    if is_entered() {
        let status = shell(PROBE)?;
        return if status { Ok(()) } else { Err(io::Error::other("the namespace has no loopback")) };
    }
    if let Some(unshare) = what_is_missing().is_none().then(|| find_program("unshare")).flatten() {
        let own = env::current_exe()?;
        let error =
            Command::new(unshare).arg("--net").arg(own).args(env::args_os().skip(1)).arg(ARGUMENT).exec();
        return Err(error);
    }
    Ok(())
}

/// Returns the reason why addresses cannot be translated here; `None` if they can.
pub fn what_is_missing() -> Option<String> {
    if is_entered() {
        return None;
    }
    if !rustix::process::geteuid().is_root() {
        return Some("it needs root".to_owned());
    }
    for (program, packages) in [("unshare", "util-linux"), ("ip", "iproute2"), ("nft", "nftables")] {
        if find_program(program).is_none() {
            return Some(format!("{program} is not installed (Debian: {packages})"));
        }
    }
    let works = shell(&format!("unshare --net sh -c '{PROBE}'")).unwrap_or(false);
    (!works).then(|| "the kernel gives no network namespace with nftables".to_owned())
}

fn is_entered() -> bool {
    env::args().any(|argument| argument == ARGUMENT)
}

fn shell(line: &str) -> io::Result<bool> {
    let mut command = Command::new("sh");
    command.args(["-c", line]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(command.status()?.success())
}

/// A rule that redirects connections from one address to another, until it is dropped.
pub struct Translation;

impl Translation {
    pub fn add(from: SocketAddr, to: SocketAddr) -> io::Result<Self> {
        let (host, port) = (from.ip(), from.port());
        run(&format!(
            "table ip {TABLE} {{
               chain output {{
                 type nat hook output priority -100;
                 ip daddr {host} tcp dport {port} dnat to {to}
               }}
             }}
"
        ))?;
        // The file appears with the rule, which makes the kernel track connections.
        let (path, seconds) = FORGET_AFTER;
        fs::write(path, seconds)?;
        Ok(Self)
    }
}

impl Drop for Translation {
    fn drop(&mut self) {
        let _ = run(&format!("delete table ip {TABLE}\n"));
    }
}

fn run(rules: &str) -> io::Result<()> {
    let nft = find_program("nft").ok_or(io::ErrorKind::NotFound)?;
    let mut child = Command::new(nft).args(["-f", "-"]).stdin(Stdio::piped()).spawn()?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(rules.as_bytes())?;
    }
    let status = child.wait()?;
    if status.success() { Ok(()) } else { Err(io::Error::other("nft refuses the rules")) }
}
