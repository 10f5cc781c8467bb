//! The kernel's view of a running relay: /proc and resource limits.

use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, SocketAddrV4, TcpStream};
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};

fn path(pid: Pid, name: &str) -> String {
    format!("/proc/{}/{name}", pid.as_raw_nonzero())
}

fn read(pid: Pid, name: &str) -> String {
    fs::read_to_string(path(pid, name)).unwrap()
}

/// Returns the process's open descriptors.
pub fn descriptors(pid: Pid) -> BTreeSet<u32> {
    fs::read_dir(path(pid, "fd"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap())
        .collect()
}

/// Returns the descriptors that the process will open next, in this order.
pub fn next_descriptors(pid: Pid) -> impl Iterator<Item = u32> {
    let open = descriptors(pid);
    (0..).filter(move |number| !open.contains(number))
}

/// Returns the object behind a descriptor, such as `socket:[1234]`, or None if the descriptor is not open.
pub fn descriptor_is(pid: Pid, number: u32) -> Option<String> {
    let link = fs::read_link(path(pid, &format!("fd/{number}"))).ok()?;
    Some(link.to_str().unwrap().to_owned())
}

/// Returns whether the process has an epoll instance. A relay makes one only after it listens.
pub fn polls(pid: Pid) -> bool {
    // The folder is gone if the process is.
    fs::read_dir(path(pid, "fd")).is_ok_and(|mut open| {
        open.any(|entry| {
            let link = entry.and_then(|entry| fs::read_link(entry.path()));
            link.is_ok_and(|link| link.ends_with("anon_inode:[eventpoll]"))
        })
    })
}

/// Returns the number of bytes that the peer of this connection has not read. The peer is on this machine as well.
pub fn unread_by_peer(stream: &TcpStream) -> usize {
    let addresses = (stream.peer_addr().unwrap(), stream.local_addr().unwrap());
    let (SocketAddr::V4(own), SocketAddr::V4(peer)) = addresses else { panic!("the tests speak IPv4") };
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    // The table prints an address as a number in the machine's byte order.
    let hex = |address: SocketAddrV4| {
        let ip = u32::from_ne_bytes(address.ip().octets());
        format!("{ip:08X}:{:04X}", address.port())
    };
    let (own, peer) = (hex(own), hex(peer));
    let queues = table.lines().find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        (fields[1] == own && fields[2] == peer).then(|| fields[4].to_owned())
    });
    let queues = queues.unwrap();
    usize::from_str_radix(queues.split_once(':').unwrap().1, 16).unwrap()
}

/// Returns a field of /proc/pid/status, with single spaces.
pub fn status(pid: Pid, name: &str) -> String {
    let text = read(pid, "status");
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
    value.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Returns the number in a field of /proc/pid/status, without its unit.
fn number(pid: Pid, name: &str) -> u64 {
    status(pid, name).split(' ').next().unwrap().parse().unwrap()
}

/// Returns how often the process went to sleep by itself: once more for each wake-up.
pub fn sleeps(pid: Pid) -> u64 {
    number(pid, "voluntary_ctxt_switches")
}

/// Returns the size of the process's address space, in bytes.
pub fn address_space(pid: Pid) -> u64 {
    number(pid, "VmSize") * 1024
}

/// Returns the memory that the process has allocated and not freed, in KiB. Resident memory would be a worse
/// measure: huge pages, and pages of a program that was just built, come and go there.
pub fn memory_kib(pid: Pid) -> u64 {
    number(pid, "VmData")
}

/// Returns the fields of /proc/pid/stat from the third on.
fn stat(pid: Pid) -> Vec<String> {
    let text = read(pid, "stat");
    // The second field is the program's name, in parentheses. It may contain anything, even a parenthesis.
    let (_, rest) = text.rsplit_once(") ").unwrap();
    rest.split(' ').map(str::to_owned).collect()
}

/// Returns the state of the process as one letter: R, S, T ...
pub fn state(pid: Pid) -> char {
    stat(pid)[0].chars().next().unwrap()
}

/// Returns the processor time that the process has used, in user and in kernel mode.
pub fn processor_time(pid: Pid) -> Duration {
    // The kernel's USER_HZ, which is 100 on every architecture that the tests run on.
    const TICK: Duration = Duration::from_millis(10);
    let fields = stat(pid);
    let ticks: u32 = fields[11].parse::<u32>().unwrap() + fields[12].parse::<u32>().unwrap();
    TICK * ticks
}

/// Waits until the process sleeps, and has not woken up since the look before.
#[track_caller]
pub fn settle(pid: Pid) {
    let mut before = u64::MAX;
    super::eventually("asleep", || {
        let now = sleeps(pid);
        let same = now == before && state(pid) == 'S';
        before = now;
        std::thread::sleep(Duration::from_millis(50));
        same
    });
}

/// Asserts that the process neither wakes up nor uses processor time for this long.
#[track_caller]
pub fn assert_rests(pid: Pid, time: Duration) {
    let before = (sleeps(pid), processor_time(pid));
    std::thread::sleep(time);
    assert_eq!((sleeps(pid), processor_time(pid)), before, "the process woke up or used processor time");
}

/// Sets a soft limit of a running process, which must have this process's hard limit. Returns the previous soft one.
#[track_caller]
pub fn limit(pid: Pid, resource: Resource, soft: Option<u64>) -> Option<u64> {
    let maximum = getrlimit(resource).maximum;
    let limit = Rlimit { current: soft, maximum };
    let previous = prlimit(Some(pid), resource, limit).unwrap();
    assert_eq!(previous.maximum, maximum, "the process has another hard limit");
    previous.current
}

/// Raises this process's soft limit of descriptors to its hard limit.
pub fn raise_own_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).unwrap();
}
