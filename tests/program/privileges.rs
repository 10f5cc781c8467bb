//! The privileges that a relay gives up once its port is bound: those before and after, and all that still works.
//!
//! Only root has privileges to give up. Without root, a test prints that it is skipped, and proves nothing.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::net::UnixDatagram;

use rustix::process::{Pid, Signal, getuid};
use serde_json::Value;

use crate::admission::own_network;
use crate::support::line::on;
use crate::support::skip::skipped;
use crate::support::{Folder, PATIENCE, STARTED, Start, eventually, free_port, net, process, run};
use crate::ways::assert_not_permitted;

const NOBODY: &str = "65534";
const ALL_IDS: &str = "65534 65534 65534 65534";

fn is_root() -> bool {
    if !getuid().is_root() {
        skipped("this takes root");
    }
    getuid().is_root()
}

/// Returns the fields of /proc/pid/status about privileges.
fn status(pid: Pid) -> BTreeMap<&'static str, String> {
    let names = ["Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs"];
    names.map(|name| (name, process::status(pid, name))).into()
}

fn expected(capabilities: u64) -> BTreeMap<&'static str, String> {
    let set = |bits: u64| format!("{bits:016x}");
    [
        ("Uid", ALL_IDS.to_owned()),
        ("Gid", ALL_IDS.to_owned()),
        ("Groups", String::new()),
        ("CapInh", set(0)),
        ("CapPrm", set(capabilities)),
        ("CapEff", set(capabilities)),
        ("CapBnd", set(0)),
        ("CapAmb", set(0)),
        ("NoNewPrivs", "1".to_owned()),
    ]
    .into()
}

#[test]
fn without_a_user_it_keeps_all_privileges_and_with_one_only_those_that_it_needs() {
    const NET_ADMIN: u64 = 1 << 12;
    if !is_root() {
        return;
    }
    // Starts the relay with an extra group, and with inheritable capabilities.
    let script = "exec setpriv --groups 0,4 --inh-caps=+net_raw \"$0\" \"$@\"";
    let listener = net::listen();
    let start = |options: &str| Start::to(net::address(&listener)).options(options).shell(script).start();

    let before = status(start("").pid);
    assert_eq!((&*before["Uid"], &*before["Groups"], &*before["NoNewPrivs"]), ("0 0 0 0", "0 4", "0"));
    assert_ne!(before["CapEff"], "0000000000000000");
    assert_ne!(before["CapInh"], "0000000000000000");

    for (options, capabilities, words) in [
        ("", 0, "none"),
        ("--mark 7", NET_ADMIN, "CAP_NET_ADMIN"),
        ("--source requester", NET_ADMIN, "CAP_NET_ADMIN"),
    ] {
        let mut relay = start(&format!("--user {NOBODY}:{NOBODY} {options}"));
        relay.log.expect_text(&format!(
            "Privileges were given up. User 65534, group 65534, root directory /, capabilities: {words}."
        ));
        assert_eq!(status(relay.pid), expected(capabilities), "{options}");
        relay.assert_relays(&listener);
        relay.log.expect_all(&STARTED, 1);
    }
}

#[test]
fn a_port_below_1024_the_log_and_the_signals_still_work() {
    if !is_root() || !own_network("") {
        return;
    }
    let folder = Folder::new();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let root = folder.join("empty");
    fs::create_dir(&root).unwrap();
    // Only root may open the log.
    let path = folder.join("log");
    let log = OpenOptions::new().append(true).create(true).mode(0o600).open(&path).unwrap();
    let listener = net::listen();
    let options = format!("--user {NOBODY}:{NOBODY} --chroot {} --timestamps", root.display());
    let start = Start::to(net::address(&listener)).options(&options).stdout(log);
    let mut relay = start.start_on(80).unwrap();
    eventually("another user", || status(relay.pid)["Uid"] == ALL_IDS);
    let seen = fs::read_link(format!("/proc/{}/root", relay.pid.as_raw_nonzero())).unwrap();
    assert_eq!(seen, fs::canonicalize(&root).unwrap());
    relay.assert_relays(&listener);
    let logs = |text: &str| eventually(text, || fs::read_to_string(&path).unwrap().contains(text));
    logs("Session handler serial number 1 terminated due to requester read closure.");
    relay.signal(Signal::USR1);
    logs("Status: 0 sessions, 1 accepted");
    relay.signal(Signal::QUIT);
    assert!(relay.wait().success());
    logs("The last session has ended. This process will now terminate.");
}

#[test]
fn bulk_traffic_passes_without_privileges() {
    if !is_root() {
        return;
    }
    let listener = net::listen();
    let relay = Start::to(net::address(&listener)).options(&format!("--user {NOBODY}:{NOBODY}")).start();
    let (mut requester, mut target) = relay.session(&listener);
    net::assert_moves(&mut requester, &mut target, &net::random(1, 8 << 20));
    net::assert_moves(&mut target, &mut requester, &net::random(2, 8 << 20));
}

#[test]
fn the_service_manager_is_notified_although_its_socket_is_outside_the_root_directory() {
    if !is_root() {
        return;
    }
    let folder = Folder::new();
    let socket = folder.join("socket");
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let root = folder.join("empty");
    fs::create_dir(&root).unwrap();
    let script = format!("NOTIFY_SOCKET={} exec \"$0\" \"$@\"", socket.display());
    let options = format!("--user {NOBODY}:{NOBODY} --chroot {}", root.display());
    let _relay = Start::to(([192, 0, 2, 7], 80).into()).options(&options).shell(&script).start();
    let mut bytes = [0; 64];
    let length = manager.recv(&mut bytes).unwrap();
    assert_eq!(&bytes[..length], b"READY=1\n");
}

#[test]
fn a_check_gives_up_the_same_privileges_and_prints_them() {
    if !is_root() {
        return;
    }
    let folder = Folder::new();
    let root = folder.path().to_str().unwrap();
    let options = ["--check", "--log-format", "json", "--user", "daemon:nogroup", "--chroot", root];
    let run = run(&on(free_port(), &options));
    assert_eq!(run.code, Some(0), "{}", run.stdout);
    let objects: Vec<Value> = run.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let numeric = format!("--user 1:65534 --chroot {root}");
    assert!(objects[0]["command_line"].as_str().unwrap().contains(&numeric), "{}", run.stdout);
    let fields = ["number", "uid", "gid", "root", "capabilities"].map(|name| &objects[1][name]);
    assert_eq!(serde_json::json!(fields), serde_json::json!([126, 1, 65534, root, "none"]));
}

#[test]
fn with_a_root_directory_alone_it_gives_up_its_capabilities_as_well() {
    if !is_root() {
        return;
    }
    let relay = Start::to(([192, 0, 2, 7], 80).into()).options("--chroot /").start();
    eventually("no capabilities", || status(relay.pid)["CapPrm"] == "0000000000000000");
    assert_eq!(status(relay.pid)["Uid"], "0 0 0 0");
}

#[test]
fn no_open_folder_leads_out_of_the_root_directory_and_the_status_is_served() {
    if !is_root() {
        return;
    }
    let folder = Folder::new();
    let status_port = free_port();
    let root = folder.path().display();
    let options = format!("--user {NOBODY}:{NOBODY} --chroot {root} --status 127.0.0.1:{status_port}");
    let relay = Start::to(([192, 0, 2, 7], 80).into()).options(&options).start();
    eventually("another user", || status(relay.pid)["Uid"] == ALL_IDS);
    let open = format!("/proc/{}/fd", relay.pid.as_raw_nonzero());
    let folders = fs::read_dir(open)
        .unwrap()
        .filter(|fd| fs::metadata(fd.as_ref().unwrap().path()).is_ok_and(|data| data.is_dir()));
    assert_eq!(folders.count(), 0);
    let mut visitor = net::connect(([127, 0, 0, 1], status_port).into());
    visitor.write_all(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").unwrap();
    let (answer, _) = net::read_all(&mut visitor);
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.contains("\nprocess_resident_memory_bytes "), "{answer}");
    assert!(!answer.contains("\nprocess_open_fds "), "{answer}");
}

#[test]
fn without_the_privilege_to_change_user_or_root_directory_it_does_not_start() {
    for (option, value, cure) in [
        ("--user", "65534:65534", "CAP_SETUID and CAP_SETGID: start as root."),
        ("--chroot", "/", "CAP_SYS_CHROOT: start as root."),
    ] {
        assert_not_permitted(option, value, cure);
    }
}

#[test]
fn in_a_root_directory_names_are_looked_up_in_its_own_files() {
    if !is_root() {
        return;
    }
    let folder = Folder::new();
    fs::create_dir(folder.join("etc")).unwrap();
    let hosts = folder.join("etc/hosts");
    fs::write(&hosts, "127.0.0.1 only-in-there\n").unwrap();
    let listener = net::listen();
    let port = net::address(&listener).port().to_string();
    let options = format!("--resolve --user {NOBODY}:{NOBODY} --chroot {}", folder.path().display());
    let mut relay = Start::to_host("only-in-there", &port).options(&options).start();
    relay.assert_relays(&listener);
    relay.log.wait_text("The target name only-in-there has the addresses 127.0.0.1.");
    // The relay sees a change of that file as well.
    fs::write(&hosts, "127.42.0.1 only-in-there\n").unwrap();
    relay.signal(Signal::HUP);
    relay.log.wait_text("The target name only-in-there has the addresses 127.42.0.1.");
}

#[test]
fn a_root_directory_without_resolver_files_is_refused_where_names_are_looked_up() {
    if !is_root() {
        return;
    }
    let folder = Folder::new();
    let etc = folder.join("etc");
    fs::create_dir(&etc).unwrap();
    let root = folder.path().to_str().unwrap();
    let start = |check: &[&str], host: &str| {
        let options = [check, &["--resolve", "--user", "65534:65534", "--chroot", root]].concat();
        let mut arguments = on(free_port(), &options);
        arguments[options.len() + 1] = host.to_owned();
        run(&arguments)
    };
    let refusal = format!(
        "Error: --chroot cannot be {root:?}. It takes a folder with an etc/hosts or an etc/resolv.conf that the relay \
         may read, as --resolve looks names up there.\n"
    );
    let refused = |check| {
        let run = start(check, "db.example");
        assert_eq!(
            (run.code, run.stdout.lines().last().map(|line| format!("{line}\n"))),
            (Some(2), Some(refusal.clone()))
        );
    };
    refused(&["--check"]);
    refused(&[]);
    // The link leads out of the folder, to a file that does not exist in the new root directory.
    std::os::unix::fs::symlink("/etc/hosts", etc.join("hosts")).unwrap();
    refused(&["--check"]);
    // Only root may read this file.
    fs::write(etc.join("resolv.conf"), "").unwrap();
    fs::set_permissions(etc.join("resolv.conf"), fs::Permissions::from_mode(0o600)).unwrap();
    refused(&["--check"]);
    assert_eq!(start(&["--check"], "192.0.2.7").code, Some(0), "an address needs no file");
    fs::set_permissions(etc.join("resolv.conf"), fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(start(&["--check"], "db.example").code, Some(0));
}
