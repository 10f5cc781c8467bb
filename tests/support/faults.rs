//! Injects faults into the relay: system calls that fail, and resource limits.
//!
//! A filter or a limit must be in place before the relay's first instruction, and safe code cannot run between
//! fork and exec. So the test binary starts itself once more, as the launcher. It runs only the test `launcher`
//! below, which applies the faults to its own process and executes the relay. The test harness prints to the
//! launcher's STDOUT, so the relay's STDOUT is passed as the launcher's STDIN.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};

use super::TCPRELAY;

/// The environment variable with the [`Faults`], and the prefix of those with the relay's arguments.
const FAULTS: &str = "TCPRELAY_TEST_FAULTS";
const ARGUMENT: &str = "TCPRELAY_TEST_ARGUMENT_";

/// A system call that a test can make fail.
#[derive(Clone, Copy)]
pub enum Call {
    Socket,
    Bind,
    Listen,
    Connect,
    SetSockOpt,
    EpollCreate,
    EpollControl,
    FileControl,
    IoControl,
    /// `open`. The C library calls `openat` instead, and newer architectures lack `open`.
    #[cfg(target_arch = "x86_64")]
    Open,
    ProcessLimit,
    Write,
    WriteV,
    SendTo,
    SendMsg,
}

/// Every system call with which a relay may write to a socket.
pub const WRITES: [Call; 4] = [Call::Write, Call::WriteV, Call::SendTo, Call::SendMsg];

impl Call {
    #[cfg(target_arch = "x86_64")]
    const fn number(self) -> i64 {
        match self {
            Call::Socket => 41,
            Call::IoControl => 16,
            Call::Bind => 49,
            Call::Listen => 50,
            Call::Connect => 42,
            Call::SetSockOpt => 54,
            Call::EpollCreate => 291,
            Call::EpollControl => 233,
            Call::FileControl => 72,
            Call::Open => 2,
            Call::ProcessLimit => 302,
            Call::Write => 1,
            Call::WriteV => 20,
            Call::SendTo => 44,
            Call::SendMsg => 46,
        }
    }

    /// Returns the call's number on newer architectures, which share their numbers.
    #[cfg(not(target_arch = "x86_64"))]
    const fn number(self) -> i64 {
        match self {
            Call::Socket => 198,
            Call::IoControl => 29,
            Call::Bind => 200,
            Call::Listen => 201,
            Call::Connect => 203,
            Call::SetSockOpt => 208,
            Call::EpollCreate => 20,
            Call::EpollControl => 21,
            Call::FileControl => 25,
            Call::ProcessLimit => 261,
            Call::Write => 64,
            Call::WriteV => 66,
            Call::SendTo => 206,
            Call::SendMsg => 211,
        }
    }
}

/// A condition on an argument of a system call. Arguments count from 0.
#[derive(Clone, Copy)]
pub enum When {
    Is(u8, u32),
    AtLeast(u8, u32),
}

/// The faults that a relay runs under.
#[derive(Clone, Default)]
pub struct Faults {
    /// One fault a line, in the format that [`Faults::apply`] parses.
    lines: Vec<String>,
}

impl Faults {
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes `call` fail with `errno` whenever all conditions hold.
    pub fn fail(mut self, call: Call, errno: Errno, when: &[When]) -> Self {
        let mut words = vec![format!("fail {} {}", call.number(), errno.raw_os_error())];
        words.extend(when.iter().map(|condition| match condition {
            When::Is(argument, value) => format!("{argument} is {value}"),
            When::AtLeast(argument, value) => format!("{argument} at-least {value}"),
        }));
        self.lines.push(words.join(" "));
        self
    }

    /// Limits the relay to this many descriptors, soft and hard, so that it cannot raise the limit.
    pub fn descriptors(self, count: u64) -> Self {
        self.limit("descriptors", count)
    }

    /// Sets the soft limit of descriptors. It is set before the filters, which may make setting a limit fail.
    pub fn soft_descriptors(self, count: u64) -> Self {
        self.limit("soft-descriptors", count)
    }

    /// Limits the size of every file that the relay writes, in bytes.
    pub fn file_size(self, bytes: u64) -> Self {
        self.limit("file-size", bytes)
    }

    /// Limits the relay's address space, in bytes.
    pub fn address_space(self, bytes: u64) -> Self {
        self.limit("address-space", bytes)
    }

    fn limit(mut self, what: &str, value: u64) -> Self {
        self.lines.push(format!("limit {what} {value}"));
        self
    }

    /// Starts the relay under these faults.
    #[track_caller]
    pub fn spawn<A: AsRef<OsStr>>(&self, arguments: &[A], stdout: OwnedFd) -> Child {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", "support::faults::launcher"]);
        command.args(["--ignored", "--nocapture", "--test-threads=1"]);
        command.env(FAULTS, self.lines.join("\n"));
        for (number, argument) in arguments.iter().enumerate() {
            command.env(format!("{ARGUMENT}{number}"), argument);
        }
        command.stdin(stdout).stdout(Stdio::null());
        command.spawn().unwrap()
    }

    /// Applies the faults to this process.
    fn apply(text: &str) {
        // The limits come last, because building a filter takes memory.
        let mut limits = Vec::new();
        let mut filters = Vec::new();
        for line in text.lines() {
            let words: Vec<_> = line.split(' ').collect();
            match words[0] {
                "fail" => filters.push(words),
                "limit" if words[1] == "soft-descriptors" => {
                    let maximum = getrlimit(Resource::Nofile).maximum;
                    let current = Some(words[2].parse().unwrap());
                    setrlimit(Resource::Nofile, Rlimit { current, maximum }).unwrap();
                }
                "limit" => limits.push((words[1], words[2].parse().unwrap())),
                other => panic!("no such fault: {other}"),
            }
        }
        for words in filters {
            apply_filter(&words[1..]);
        }
        for (what, value) in limits {
            let resource = match what {
                "descriptors" => Resource::Nofile,
                "file-size" => Resource::Fsize,
                "address-space" => Resource::As,
                other => panic!("no such limit: {other}"),
            };
            let limit = Rlimit { current: Some(value), maximum: Some(value) };
            setrlimit(resource, limit).unwrap();
        }
    }
}

/// Installs a filter for one system call. A filter has a single errno, so each call needs a filter of its own.
/// The kernel evaluates all of them.
fn apply_filter(words: &[&str]) {
    let call = words[0].parse().unwrap();
    let errno = words[1].parse().unwrap();
    let conditions: Vec<_> = words[2..]
        .chunks(3)
        .map(|condition| {
            let operator = match condition[1] {
                "is" => SeccompCmpOp::Eq,
                "at-least" => SeccompCmpOp::Ge,
                other => panic!("no such condition: {other}"),
            };
            let (argument, value) = (condition[0].parse(), condition[2].parse());
            let length = SeccompCmpArgLen::Dword;
            SeccompCondition::new(argument.unwrap(), length, operator, value.unwrap()).unwrap()
        })
        .collect();
    seccompiler::apply_filter(&failing(call, errno, conditions)).unwrap();
}

/// Makes a filter that lets one system call fail if all conditions hold.
pub fn failing(call: i64, errno: u32, conditions: Vec<SeccompCondition>) -> BpfProgram {
    // Without any rule, the filter matches every call with this number.
    let rules = if conditions.is_empty() { Vec::new() } else { vec![SeccompRule::new(conditions).unwrap()] };
    filter(BTreeMap::from([(call, rules)]), SeccompAction::Allow, SeccompAction::Errno(errno))
}

/// Makes a filter with one action for the calls that `rules` match, and one for all others.
pub fn filter(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    others: SeccompAction,
    matched: SeccompAction,
) -> BpfProgram {
    let architecture = TargetArch::try_from(env::consts::ARCH).unwrap();
    SeccompFilter::new(rules, others, matched, architecture).unwrap().try_into().unwrap()
}

#[test]
#[ignore = "no test, but the step from a test to a relay with faults"]
fn launcher() {
    // A run of all ignored tests does not set it, and then there is nothing to launch.
    let Ok(faults) = env::var(FAULTS) else {
        return;
    };
    let arguments = (0..).map_while(|number| env::var_os(format!("{ARGUMENT}{number}")));
    let stdout = io::stdin().as_fd().try_clone_to_owned().unwrap();
    let mut relay = Command::new(TCPRELAY);
    relay.args(arguments).env_clear();
    relay.stdin(Stdio::null()).stdout(stdout);
    Faults::apply(&faults);
    let error = relay.exec();
    panic!("cannot execute the relay: {error}");
}
