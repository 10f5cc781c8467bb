//! The init scripts for OpenWrt and OpenRC, run in BusyBox's shell, with stubs for the rest of the system.
#![allow(clippy::doc_markdown)]

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tcprelay::cli;

use crate::support::Folder;
use crate::support::skip::skipped;

fn dist(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/dist").join(path)
}

/// Returns every option that an init script must know. That leaves out the options that print and exit, and those
/// whose work the init system does.
fn configurable() -> Vec<String> {
    let command = cli::command();
    let options = command.get_arguments().filter_map(|argument| argument.get_long());
    options
        .filter(|option| !["check", "help", "user", "chroot"].contains(option))
        .map(str::to_owned)
        .collect()
}

/// Runs an init script through its stubs in BusyBox's shell, with the system's files under `root`. Returns None,
/// and prints the reason, without BusyBox.
fn ash(stubs: &str, argument: &str, root: &Path, input: &str) -> Option<Output> {
    let mut command = Command::new("busybox");
    command.arg("ash").arg(dist(stubs)).arg(env!("CARGO_BIN_EXE_tcprelay")).arg(argument);
    command.env("IPKG_INSTROOT", root).stdin(Stdio::piped()).stdout(Stdio::piped());
    match command.spawn() {
        Ok(mut child) => {
            child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
            Some(child.wait_with_output().unwrap())
        }
        Err(error) => {
            skipped(format_args!("busybox: {error}"));
            None
        }
    }
}

fn lines(output: &Output) -> Vec<&str> {
    std::str::from_utf8(&output.stdout).unwrap().lines().collect()
}

/// Asserts that the program accepts the command line that a script made.
fn assert_accepted<'a>(arguments: impl Iterator<Item = &'a str>) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_tcprelay")).arg("--check").args(arguments).output().unwrap();
    assert_ne!(output.status.code(), Some(2), "{output:?}");
}

#[test]
fn the_init_scripts_and_their_examples_know_every_option() {
    let texts = ["openwrt/files/tcprelay.init", "openrc/tcprelay.initd"].map(|path| {
        let script = fs::read_to_string(dist(path)).unwrap();
        let rows = script.lines().filter(|line| line.starts_with("value ") || line.starts_with("flag "));
        rows.filter_map(|row| row.split(' ').nth(1).map(str::to_owned)).collect::<Vec<_>>()
    });
    let examples = ["openwrt/files/tcprelay.config", "openrc/tcprelay.confd"]
        .map(|path| fs::read_to_string(dist(path)).unwrap());
    for option in configurable().iter().map(|option| option.replace('-', "_")) {
        assert!(texts.iter().all(|rows| rows.contains(&option)), "no row {option} in {texts:?}");
        assert!(examples[0].contains(&format!(" {option} '")), "no {option} in {}", examples[0]);
        assert!(examples[1].contains(&format!("#{option}=")), "no {option} in {}", examples[1]);
        assert!(OPENWRT_SECTIONS.contains(&format!("\nweb {option} ")), "no {option} in {OPENWRT_SECTIONS}");
    }
}

const OPENWRT_SECTIONS: &str = "\
ssh enabled 1
ssh forward_port 2222
ssh target_host 127.0.0.1
ssh target_port 22
ssh acl 10.0.0.0/8
web enabled on
web forward_port 80
web target_host ::1
web target_port 8080
web acl ANY
web connect_timeout 1
web idle_timeout 30
web absolute_timeout 600
web buffer 100
web interface wan
web run_as nobody
web bind ::
web resolve 1
web backup ::2 [::3]:81
web source ::1
web source_interface lo
web bind_interface lo
web mark 7
web dscp 46
web reuse_port 1
web allow 10.0.0.0/8 2001:db8::/32
web deny 10.6.6.0/24
web max_per_source 5
web sessions 1000
web proxy_protocol v1
web status 9100
web log_format json
web log_level ends
web timestamps 1
web no_splice 0
off forward_port 1
port enabled 1
port forward_port 65536
choice enabled 1
choice forward_port 1
choice proxy_protocol v3
name enabled 1
name forward_port 9000
name target_host localhost
";

/// Returns a folder with the files of OpenWrt that the init script reads.
fn openwrt() -> Folder {
    let root = Folder::new();
    fs::create_dir_all(root.join("lib/functions")).unwrap();
    let network = "network_get_device() { eval \"$1=device-of-$2\"; }\n";
    fs::write(root.join("lib/functions/network.sh"), network).unwrap();
    root
}

#[test]
fn each_openwrt_section_becomes_a_procd_instance() {
    let root = openwrt();
    let Some(output) = ash("openwrt/stubs.sh", "start_service", root.path(), OPENWRT_SECTIONS) else {
        return;
    };
    let program = env!("CARGO_BIN_EXE_tcprelay");
    let ssh = "2222|127.0.0.1|22|10.0.0.0/8|3|600|0|4000";
    let web = "--bind|::|--resolve|--backup|::2|--backup|[::3]:81|--source|::1|--source-interface|lo|\
        --bind-interface|lo|--mark|7|--dscp|46|--reuse-port|--allow|10.0.0.0/8|--allow|2001:db8::/32|\
        --deny|10.6.6.0/24|--max-per-source|5|--sessions|1000|--proxy-protocol|v1|--status|9100|--log-format|json|\
        --log-level|ends|--timestamps|--user|nobody|80|::1|8080|ANY|1|30|600|100";
    let refusal = "Error: Invalid IP address specified for <trg host>.";
    let lines = lines(&output);
    assert_eq!(
        lines,
        [
            "procd_open_instance|ssh",
            &format!("procd_set_param|command|{program}|{ssh}"),
            "procd_set_param|stdout|1",
            "procd_set_param|stderr|1",
            "procd_set_param|respawn|3600|5|0",
            "procd_set_param|no_new_privs|1",
            "procd_set_param|user|tcprelay",
            "procd_set_param|group|tcprelay",
            "procd_close_instance|",
            "procd_open_instance|web",
            &format!("procd_set_param|command|{program}|{web}"),
            "procd_set_param|stdout|1",
            "procd_set_param|stderr|1",
            "procd_set_param|limits|nofile=2128 2128",
            "procd_set_param|netdev|device-of-wan",
            "procd_set_param|no_new_privs|1",
            "procd_close_instance|",
            "logger|-s|-t|tcprelay|-p|daemon.err|Section port is not started: an option has a wrong value",
            "logger|-s|-t|tcprelay|-p|daemon.err|Section choice is not started: an option has a wrong value",
            &format!("logger|-s|-t|tcprelay|-p|daemon.err|Section name is not started: {refusal}"),
            "The value given was \"localhost\". A name needs --resolve. A valid example: 192.0.2.7",
        ]
    );
    assert_accepted(ssh.split('|'));
    assert_accepted(web.split('|'));
}

#[test]
fn an_openwrt_jail_keeps_the_capability_for_low_ports() {
    let root = openwrt();
    fs::create_dir(root.join("sbin")).unwrap();
    std::os::unix::fs::symlink("/bin/sh", root.join("sbin/ujail")).unwrap();
    let Some(output) = ash("openwrt/stubs.sh", "start_service", root.path(), OPENWRT_SECTIONS) else {
        return;
    };
    let lines = lines(&output);
    let jail = lines.iter().position(|line| *line == "procd_add_jail|tcprelay_web").unwrap();
    assert_eq!(
        lines[jail + 1..jail + 4],
        [
            "procd_set_param|capabilities|/etc/capabilities/tcprelay.json",
            "procd_set_param|user|nobody",
            "procd_set_param|group|nobody"
        ]
    );
}

#[test]
fn without_an_openwrt_jail_a_relay_that_needs_capabilities_changes_its_user_itself() {
    for (option, user) in
        [("", false), ("mark 7", true), ("source requester", true), ("source 127.0.0.1", false)]
    {
        let section = "web enabled 1\nweb forward_port 8080\nweb target_host 127.0.0.1\nweb target_port 80\n\
                       web acl ANY\nweb run_as nobody\n";
        let option = if option.is_empty() { String::new() } else { format!("web {option}\n") };
        let input = format!("{section}{option}");
        let Some(output) = ash("openwrt/stubs.sh", "start_service", Path::new("/"), &input) else { return };
        let lines = lines(&output);
        assert_eq!(lines.iter().any(|line| line.contains("|--user|nobody|8080|")), user, "{lines:?}");
        assert_eq!(lines.contains(&"procd_set_param|user|nobody"), !user, "{lines:?}");
    }
}

#[test]
fn openwrt_reloads_a_relay_when_its_file_or_its_interface_changes() {
    let Some(output) = ash("openwrt/stubs.sh", "service_triggers", Path::new("/"), OPENWRT_SECTIONS) else {
        return;
    };
    assert_eq!(
        lines(&output),
        [
            "procd_add_reload_trigger|tcprelay",
            "procd_add_reload_interface_trigger|wan",
            "procd_add_validation|validate_relay"
        ]
    );
}

#[test]
fn an_openrc_file_becomes_a_command_line() {
    let file = fs::read_to_string(dist("openrc/tcprelay.confd")).unwrap();
    // The example's lines without their comment signs.
    let file: String = file
        .lines()
        .filter_map(|line| line.strip_prefix('#'))
        .filter(|line| line.split_once('=').is_some_and(|(name, _)| !name.contains(' ')))
        // The program accepts only an address and an interface of this machine.
        .map(|line| line.replace("source=192.168.1.1", "source=127.0.0.1").replace("=eth0", "=lo"))
        .collect::<Vec<_>>()
        .join("\n");
    let Some(output) = ash("openrc/stubs.sh", "tcprelay", Path::new("/"), &file) else { return };
    let arguments = "--bind 192.168.1.1 --resolve --backup 192.168.1.11 --backup 192.168.1.12:8080 --source 127.0.0.1 \
         --source-interface lo --bind-interface lo --mark 7 --dscp 46 --reuse-port --allow 10.0.0.0/8 --allow 172.16.0.0/12 \
         --deny 10.6.6.0/24 --max-per-source 50 --sessions 500 --proxy-protocol v2 --status 9100 --log-format json \
         --log-level ends --timestamps --no-splice 8080 192.168.1.10 80 192.168.1.0/24 3 600 0 4000";
    let found = lines(&output);
    assert!(output.status.success(), "{found:?}");
    assert_eq!(
        found,
        [
            &format!("command_args|{arguments}"),
            "command_user|tcprelay:tcprelay",
            "capabilities|^cap_net_admin",
            "supervisor|supervise-daemon",
            "command_background|",
            "retry|SIGQUIT/15/SIGTERM/5"
        ]
    );
    assert_accepted(arguments.split(' '));
}

#[test]
fn openrc_refuses_a_wrong_file_and_does_not_supervise_a_relay_with_an_absolute_timeout() {
    let Some(output) =
        ash("openrc/stubs.sh", "tcprelay", Path::new("/"), "forward_port=80 absolute_timeout=600")
    else {
        return;
    };
    let found = lines(&output);
    assert!(!output.status.success(), "{found:?}");
    assert_eq!(found[2..5], ["capabilities|^cap_net_bind_service", "supervisor|", "command_background|yes"]);
    assert_eq!(found[6], "eerror|Error: Invalid IP address specified for <trg host>.");
}

#[test]
fn openrc_gives_a_relay_only_the_capabilities_that_it_needs() {
    for (file, capabilities) in [
        ("forward_port=8080 source=192.0.2.1", ""),
        ("forward_port=80", "^cap_net_bind_service"),
        ("forward_port=8080 source=requester", "^cap_net_admin"),
        ("forward_port=80 mark=7", "^cap_net_bind_service,^cap_net_admin"),
    ] {
        let Some(output) = ash("openrc/stubs.sh", "tcprelay", Path::new("/"), file) else { return };
        assert_eq!(lines(&output)[2], format!("capabilities|{capabilities}"));
    }
}

#[test]
fn shellcheck_finds_nothing_in_the_scripts() {
    let mut scripts = vec![dist("openrc/APKBUILD")];
    add_scripts(&dist(""), &mut scripts);
    match Command::new("shellcheck").args(&scripts).output() {
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout)),
        Err(error) => skipped(format_args!("shellcheck: {error}")),
    }
}

/// Adds every shell script below a folder, known by its first line.
fn add_scripts(folder: &Path, scripts: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            add_scripts(&path, scripts);
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let first = text.lines().next().unwrap_or_default();
        if first.starts_with("#!") && (first.contains("sh") || first.ends_with("openrc-run")) {
            scripts.push(path);
        }
    }
}
