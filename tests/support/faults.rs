//! System calls of the relay that fail, and limits that it runs into.
//!
//! A filter or a limit has to be in place before the relay's first instruction, and what a process does
//! between fork and exec cannot be written in safe code. So the test binary starts itself once more, as the
//! launcher: it runs nothing but the test named `launcher` below, which puts the faults upon itself and
//! becomes the relay. The test harness prints to its STDOUT on the way there; the relay's own STDOUT travels
//! as the launcher's STDIN.

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

/// The variable that carries [`Faults`], and what those that carry the relay's arguments begin with.
const FAULTS: &str = "TCPRELAY_TEST_FAULTS";
const ARGUMENT: &str = "TCPRELAY_TEST_ARGUMENT_";

/// A system call that can be made to fail.
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
    /// `open`, which the C library does not use; no newer architecture has it.
    #[cfg(target_arch = "x86_64")]
    Open,
    ProcessLimit,
    Write,
    WriteV,
    SendTo,
    SendMsg,
}

/// All that a relay may write to a socket with.
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

    /// The numbers that newer architectures share.
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

/// A condition on an argument of a system call, counted from 0.
#[derive(Clone, Copy)]
pub enum When {
    Is(u8, u32),
    AtLeast(u8, u32),
}

/// What is wrong in the relay's world.
#[derive(Clone, Default)]
pub struct Faults {
    /// One fault a line, in words that [`Faults::take`] reads again.
    lines: Vec<String>,
}

impl Faults {
    pub fn new() -> Self {
        Self::default()
    }

    /// `call` fails with `errno` whenever all conditions hold.
    pub fn fail(mut self, call: Call, errno: Errno, when: &[When]) -> Self {
        let mut words = vec![format!("fail {} {}", call.number(), errno.raw_os_error())];
        words.extend(when.iter().map(|condition| match condition {
            When::Is(argument, value) => format!("{argument} is {value}"),
            When::AtLeast(argument, value) => format!("{argument} at-least {value}"),
        }));
        self.lines.push(words.join(" "));
        self
    }

    /// At most this many descriptors, and no way to raise it.
    pub fn descriptors(self, count: u64) -> Self {
        self.limit("descriptors", count)
    }

    /// A soft limit of this many descriptors, which takes effect before any call fails.
    pub fn soft_descriptors(self, count: u64) -> Self {
        self.limit("soft-descriptors", count)
    }

    /// No file grows past this many bytes.
    pub fn file_size(self, bytes: u64) -> Self {
        self.limit("file-size", bytes)
    }

    /// An address space of no more than this many bytes.
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

    /// Puts the faults upon this process.
    fn take(text: &str) {
        // The limits last: the filter's program still has to be built.
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
            take_filter(&words[1..]);
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

/// Takes a filter of its own for one system call: a filter has one errno, and the kernel asks all of them.
fn take_filter(words: &[&str]) {
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
    // No rule at all stands for every call.
    let rules = if conditions.is_empty() { Vec::new() } else { vec![SeccompRule::new(conditions).unwrap()] };
    let filter = SeccompFilter::new(
        BTreeMap::from([(call, rules)]),
        SeccompAction::Allow,
        SeccompAction::Errno(errno),
        TargetArch::try_from(env::consts::ARCH).unwrap(),
    );
    let program = BpfProgram::try_from(filter.unwrap()).unwrap();
    seccompiler::apply_filter(&program).unwrap();
}

#[test]
#[ignore = "no test, but the step from a test to a relay with faults"]
fn launcher() {
    // Without it, somebody runs the ignored tests by hand.
    let Ok(faults) = env::var(FAULTS) else {
        return;
    };
    let arguments = (0..).map_while(|number| env::var_os(format!("{ARGUMENT}{number}")));
    let stdout = io::stdin().as_fd().try_clone_to_owned().unwrap();
    let mut relay = Command::new(TCPRELAY);
    relay.args(arguments).env_clear();
    relay.stdin(Stdio::null()).stdout(stdout);
    Faults::take(&faults);
    let error = relay.exec();
    panic!("the relay cannot be executed: {error}");
}
