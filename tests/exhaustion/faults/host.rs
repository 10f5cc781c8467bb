//! Relays whose system calls fail, from their first instruction on or from a moment that the test chooses.
//!
//! In either case a shell starts this test binary again, to run nothing but [`host`]. For the first kind, that
//! installs the filters and executes the real program. For the second, it runs a relay as the program does, and
//! installs filters in all its threads when the test orders it to. An installed filter stays.

use std::env;
use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio, exit};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;

use rustix::io::Errno;
use seccompiler::{BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition};
use tcprelay::Sink as _;
use tcprelay::cli::{Request, parse};

use crate::support::faults::{failing, filter};
use crate::support::{Relay, Start, TCPRELAY, eventually, net, process};

/// The environment variables that carry the rules, the relay's arguments, and the name of the control socket.
const RULES: &str = "TCPRELAY_TEST_RULES";
const ARGUMENTS: &str = "TCPRELAY_TEST_HOST_ARGUMENTS";
const CONTROL: &str = "TCPRELAY_TEST_CONTROL";

/// A system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call {
    pub name: &'static str,
    number: i64,
}

/// Returns a call by its numbers, on `x86_64` and on the newer architectures, which share theirs.
pub const fn call(name: &'static str, x86_64: i64, newer: i64) -> Call {
    Call { name, number: if cfg!(target_arch = "x86_64") { x86_64 } else { newer } }
}

/// A call that fails with an error whenever its arguments have these values.
#[derive(Clone, Debug)]
pub struct Rule {
    call: Call,
    errno: Errno,
    when: Vec<(u8, u32)>,
}

impl Rule {
    pub fn fail(call: Call, errno: Errno) -> Self {
        Self { call, errno, when: Vec::new() }
    }

    /// Limits the rule to calls whose argument, counted from 0, has this value.
    pub fn when(mut self, argument: u8, value: u32) -> Self {
        self.when.push((argument, value));
        self
    }

    fn to_words(&self) -> String {
        let mut words = format!("fail {} {}", self.call.number, self.errno.raw_os_error());
        for (argument, value) in &self.when {
            write!(words, " {argument} {value}").unwrap();
        }
        words
    }
}

fn to_text(rules: &[Rule]) -> String {
    rules.iter().map(Rule::to_words).collect::<Vec<_>>().join(";")
}

/// Returns the order to end the process at every call but these.
fn only(calls: &[Call]) -> String {
    let numbers: Vec<_> = calls.iter().map(|call| call.number.to_string()).collect();
    format!("only {}", numbers.join(" "))
}

/// Starts the real program, under these rules from its first instruction on.
#[track_caller]
pub fn start_with(start: Start, rules: &[Rule]) -> Relay {
    start.shell(&script(&format!("{RULES}='{}'", to_text(rules)))).start()
}

/// A relay whose calls begin to fail when [`Faults::begin`] says so.
pub struct Faults(UnixStream);

/// Starts a relay in a host, whose calls can be made to fail later.
#[track_caller]
pub fn start_hosted(start: Start) -> (Relay, Faults) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("tcprelay-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let relay = start.shell(&script(&format!("{CONTROL}='{name}'"))).start();
    assert!(net::readable_within(&listener, crate::support::PATIENCE), "the host does not answer");
    let (control, _) = listener.accept().unwrap();
    control.set_read_timeout(Some(crate::support::PATIENCE)).unwrap();
    (relay, Faults(control))
}

impl Faults {
    /// Makes these calls fail from now on.
    #[track_caller]
    pub fn begin(&mut self, rules: &[Rule]) {
        self.order(&to_text(rules));
    }

    /// Lets every call but these end the process from now on.
    #[track_caller]
    pub fn allow_only(&mut self, calls: &[Call]) {
        self.order(&only(calls));
    }

    #[track_caller]
    fn order(&mut self, text: &str) {
        writeln!(self.0, "{text}").unwrap();
        let mut answer = [0];
        self.0.read_exact(&mut answer).unwrap();
    }
}

/// Returns a script that starts this binary again, with one more variable. All threads of the new process share
/// one malloc arena, as a process of one thread has. Its test harness prints to STDOUT, so the relay's log is
/// passed as STDIN.
fn script(variable: &str) -> String {
    let binary = env::current_exe().unwrap();
    format!(
        "exec 0<&1 1>/dev/null; export MALLOC_ARENA_MAX=1; export {variable}; export {ARGUMENTS}=\"$*\"; \
         exec '{}' --exact faults::host::host --ignored --nocapture --test-threads=1",
        binary.display()
    )
}

#[test]
#[ignore = "no test, but the step from a test to a relay whose calls fail"]
fn host() {
    let Ok(arguments) = env::var(ARGUMENTS) else { return };
    let arguments: Vec<_> = arguments.split_whitespace().map(str::to_owned).collect();
    let stdout = io::stdin().as_fd().try_clone_to_owned().unwrap();
    if let Ok(rules) = env::var(RULES) {
        let mut relay = Command::new(TCPRELAY);
        relay.args(arguments).env_clear().stdin(Stdio::null()).stdout(stdout);
        for program in programs(&rules) {
            seccompiler::apply_filter(&program).unwrap();
        }
        panic!("the relay cannot be executed: {}", relay.exec());
    }

    // From here on, the host does as the program does.
    let Ok(Request::Run(config)) = parse(arguments.into_iter().map(Into::into)) else {
        panic!("the arguments are wrong");
    };
    let log = |stdout| tcprelay::Log::to(stdout, config.log_style());
    let spare = stdout.try_clone().unwrap();
    let relay = match tcprelay::Relay::bind(config.clone(), log(stdout)) {
        Ok(relay) => relay,
        Err(error) => {
            log(spare).close(&error.into());
            exit(1)
        }
    };
    drop(spare);
    relay.listen_to_signals().unwrap();
    let name = env::var(CONTROL).unwrap();
    // Starting a thread makes calls that only a host makes. The start of the thread below is over before it gets
    // the socket that brings the first order. The harness does nothing but wait for the thread of this test.
    eventually("the harness waits", || process::state(rustix::process::getpid()) == 'S');
    let (hand_over, control) = mpsc::channel();
    thread::spawn(move || obey(&control.recv().unwrap()));
    hand_over
        .send(UnixStream::connect_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap())
        .unwrap();
    exit(i32::from(relay.run().is_err()))
}

/// Installs the filters of each order, and confirms the order.
fn obey(mut control: &UnixStream) {
    let mut orders = BufReader::new(control);
    let mut order = String::with_capacity(64 << 10);
    while orders.read_line(&mut order).is_ok_and(|count| count > 0) {
        // All filters are made before the first is installed, because it may be memory that fails.
        let programs = programs(order.trim_end());
        for program in &programs {
            seccompiler::apply_filter_all_threads(program).unwrap();
        }
        control.write_all(b"!").unwrap();
        // Freeing the filters could make a call, so they leak.
        std::mem::forget(programs);
        order.clear();
    }
    // The thread must not end, because its end makes calls that only a host makes.
    loop {
        thread::park();
    }
}

/// Makes a filter for each rule. A filter has only one errno, and the kernel applies all filters.
fn programs(rules: &str) -> Vec<BpfProgram> {
    rules.split(';').filter(|rule| !rule.is_empty()).map(program).collect()
}

fn program(rule: &str) -> BpfProgram {
    let mut words = rule.split(' ');
    let kind = words.next().unwrap();
    let numbers: Vec<i64> = words.map(|word| word.parse().unwrap()).collect();
    match kind {
        "fail" => {
            let conditions = numbers[2..].chunks(2).map(|pair| {
                let (argument, value) = (pair[0].try_into().unwrap(), pair[1].try_into().unwrap());
                let length = SeccompCmpArgLen::Dword;
                SeccompCondition::new(argument, length, SeccompCmpOp::Eq, value).unwrap()
            });
            failing(numbers[0], u32::try_from(numbers[1]).unwrap(), conditions.collect())
        }
        "only" => {
            let rules = numbers.into_iter().map(|number| (number, Vec::new())).collect();
            filter(rules, SeccompAction::KillProcess, SeccompAction::Allow)
        }
        other => panic!("no such rule: {other}"),
    }
}
