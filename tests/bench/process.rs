//! Figures from the kernel about processes, and about the machine.

use std::fs;
use std::io;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The unit of /proc/PID/stat: `USER_HZ` is 100 on every architecture that has a Debian.
const TICK: Duration = Duration::from_millis(10);

/// Returns the processor time of a process and its descendants, including those that have ended.
pub fn processor_time(pid: u32) -> io::Result<Duration> {
    // Without the process itself the sum would be nonsense, so its error is returned.
    own_processor_time(pid)?;
    Ok(family(pid).into_iter().filter_map(|member| own_processor_time(member).ok()).sum())
}

/// Returns the memory of a process and its descendants in KiB, with shared pages counted in proportion (PSS).
pub fn memory_kib(pid: u32) -> io::Result<u64> {
    own_memory_kib(pid)?;
    Ok(family(pid).into_iter().filter_map(|member| own_memory_kib(member).ok()).sum())
}

/// Returns whether a process has children that run, or have ended and were not waited for.
pub fn has_children(pid: u32) -> bool {
    !children(pid).is_empty()
}

/// Raises the descriptor limit of this process, and so of the relays that it starts, to `enough`, or as near as
/// the system allows. Returns the new limit.
pub fn raise_descriptor_limit(enough: u64) -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_some_and(|current| current < enough) {
        // Only root may have more than the maximum.
        let raised = Some(maximum.map_or(enough, |maximum| maximum.max(enough)));
        if setrlimit(Resource::Nofile, Rlimit { current: Some(enough), maximum: raised }).is_err() {
            let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
        }
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Returns the kernel's release and the processor's model, in words.
pub fn machine() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let models = cpuinfo.lines().filter_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = models.map(|(_, model)| model).next().unwrap_or("processor of unknown model");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("Linux {}, {cores} cores of {model}", release.trim())
}

/// Returns a process and its descendants.
fn family(pid: u32) -> Vec<u32> {
    let mut members = vec![pid];
    let mut asked = 0;
    while let Some(&member) = members.get(asked) {
        members.extend(children(member));
        asked += 1;
    }
    members
}

fn children(pid: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// Returns the processor time of the process itself and of its children that have ended.
pub fn own_processor_time(pid: u32) -> io::Result<Duration> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is the program's name and may hold anything, even a bracket.
    let (_, fields) = text.rsplit_once(") ").ok_or(io::ErrorKind::InvalidData)?;
    let fields: Vec<u32> = fields.split(' ').map(|field| field.parse().unwrap_or_default()).collect();
    let [user, kernel, ended_user, ended_kernel] =
        fields.get(11..15).and_then(|times| times.try_into().ok()).ok_or(io::ErrorKind::InvalidData)?;
    // A tick is too coarse for the many short processes of a relay that forks.
    let own = scheduled(pid).unwrap_or(TICK * (user + kernel));
    Ok(own + TICK * (ended_user + ended_kernel))
}

/// Returns the processor time of a process's threads to the nanosecond; `None` where the kernel does not
/// count it.
fn scheduled(pid: u32) -> Option<Duration> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let times = threads.map(|thread| {
        let text = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
    });
    times.sum()
}

fn own_memory_kib(pid: u32) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| io::ErrorKind::InvalidData.into())
}
