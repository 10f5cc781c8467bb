//! What the kernel tells about a running relay.

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

/// Its open descriptors.
pub fn descriptors(pid: Pid) -> BTreeSet<u32> {
    fs::read_dir(path(pid, "fd"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap())
        .collect()
}

/// The descriptors that it will get next, in this order.
pub fn next_descriptors(pid: Pid) -> impl Iterator<Item = u32> {
    let open = descriptors(pid);
    (0..).filter(move |number| !open.contains(number))
}

/// What a descriptor of it is, as in `socket:[1234]`.
pub fn descriptor_is(pid: Pid, number: u32) -> Option<String> {
    let link = fs::read_link(path(pid, &format!("fd/{number}"))).ok()?;
    Some(link.to_str().unwrap().to_owned())
}

/// Whether it polls, which it does once it listens.
pub fn polls(pid: Pid) -> bool {
    // There is nothing to read if the process is gone.
    fs::read_dir(path(pid, "fd")).is_ok_and(|mut open| {
        open.any(|entry| {
            let link = entry.and_then(|entry| fs::read_link(entry.path()));
            link.is_ok_and(|link| link.ends_with("anon_inode:[eventpoll]"))
        })
    })
}

/// How many bytes wait to be read at the other end of this connection, which is on this machine as well.
pub fn unread_by_peer(stream: &TcpStream) -> usize {
    let addresses = (stream.peer_addr().unwrap(), stream.local_addr().unwrap());
    let (SocketAddr::V4(own), SocketAddr::V4(peer)) = addresses else { panic!("the tests speak IPv4") };
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    // The table has addresses as they lie in memory.
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

/// The number after `name:` in a file of such lines.
fn number(pid: Pid, file: &str, name: &str) -> u64 {
    let text = read(pid, file);
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// How often it went to sleep of its own accord: one more for each wake-up.
pub fn sleeps(pid: Pid) -> u64 {
    number(pid, "status", "voluntary_ctxt_switches:")
}

/// Its address space, in bytes.
pub fn address_space(pid: Pid) -> u64 {
    number(pid, "status", "VmSize:") * 1024
}

/// The memory that it has asked for and not given back, in KiB. What is resident would say less: huge pages
/// and the pages of a program that was built just now come and go there.
pub fn memory_kib(pid: Pid) -> u64 {
    number(pid, "status", "VmData:")
}

/// The fields of /proc/pid/stat from the third on.
fn stat(pid: Pid) -> Vec<String> {
    let text = read(pid, "stat");
    // The second field is the program's name and may hold anything, even a bracket.
    let (_, rest) = text.rsplit_once(") ").unwrap();
    rest.split(' ').map(str::to_owned).collect()
}

/// R, S, T ...
pub fn state(pid: Pid) -> char {
    stat(pid)[0].chars().next().unwrap()
}

/// The processor time that it used, in user and in kernel mode.
pub fn processor_time(pid: Pid) -> Duration {
    // The kernel's USER_HZ, which is 100 on every architecture that the tests run on.
    const TICK: Duration = Duration::from_millis(10);
    let fields = stat(pid);
    let ticks: u32 = fields[11].parse::<u32>().unwrap() + fields[12].parse::<u32>().unwrap();
    TICK * ticks
}

/// Waits until it sleeps and goes on sleeping.
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

/// It neither wakes up nor works in all this time.
#[track_caller]
pub fn assert_rests(pid: Pid, time: Duration) {
    let before = (sleeps(pid), processor_time(pid));
    std::thread::sleep(time);
    assert_eq!((sleeps(pid), processor_time(pid)), before, "it wakes up or works");
}

/// Sets a soft limit of a running process; returns the one before.
pub fn limit(pid: Pid, resource: Resource, soft: Option<u64>) -> Option<u64> {
    let maximum = getrlimit(resource).maximum;
    let limit = Rlimit { current: soft, maximum };
    prlimit(Some(pid), resource, limit).unwrap().current
}

/// Lets this process have as many descriptors as it may.
pub fn raise_own_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).unwrap();
}
