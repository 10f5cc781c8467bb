//! The contestants: our relay, its peers and the yardsticks, where their programs are found, and their
//! versions.

use std::env;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::options::Options;
use crate::recipes::{self, Recipe, Route, Start};

/// The name of our own relay.
pub const OURS: &str = "tcprelay";
/// The name of the floor, the least that a relay must do.
pub const FLOOR: &str = "floor";
/// The name of the kernel's own way.
pub const DNAT: &str = "dnat";

/// Folders in which Debian keeps servers. An ordinary user's PATH lacks them.
const SERVER_FOLDERS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// A relay or yardstick that is measured.
#[derive(Clone)]
pub struct Contestant {
    pub name: &'static str,
    pub kind: Kind,
    pub way: Way,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Ours,
    Peer,
    /// A reference to compare relays with, not a peer.
    Yardstick,
}

/// How bytes get to the target.
#[derive(Clone)]
pub enum Way {
    /// A process relays them.
    Process { program: Program, version: &'static str, recipe: Recipe },
    /// A process of the user's choice relays them, started by a command line with placeholders.
    Command { program: PathBuf, arguments: Vec<String> },
    /// The requester connects to the target itself.
    Direct,
    /// The kernel translates addresses.
    Translation,
}

/// Where a program is found.
#[derive(Clone, Copy)]
pub enum Program {
    /// On the PATH, from these Debian packages.
    Installed(&'static str, &'static str),
    /// At the path in this environment variable, or on the PATH.
    NamedOrInstalled(&'static str, &'static str),
    /// At the path in this environment variable.
    Named(&'static str),
    /// The benchmark's own program.
    Itself,
}

const fn process(
    name: &'static str,
    kind: Kind,
    program: Program,
    version: &'static str,
    recipe: Recipe,
) -> Contestant {
    Contestant { name, kind, way: Way::Process { program, version, recipe } }
}

const fn peer(name: &'static str, program: Program, version: &'static str, recipe: Recipe) -> Contestant {
    process(name, Kind::Peer, program, version, recipe)
}

/// Our relay's program, named by `TCPRELAY` or built by `cargo bench`. The latter has features that only
/// packaging needs, so it is 40 KB larger than the released one.
const OUR_PROGRAM: Program = Program::NamedOrInstalled("TCPRELAY", env!("CARGO_BIN_EXE_tcprelay"));
const HAPROXY: Program = Program::Installed("haproxy", "haproxy");
const HAPROXY_NEW: Program = Program::Named("HAPROXY_NEW");

/// All contestants, ours first.
pub const ALL: [Contestant; 17] = [
    process(OURS, Kind::Ours, OUR_PROGRAM, "--version", recipes::tcprelay),
    peer("haproxy", HAPROXY, "-v", recipes::haproxy),
    peer("haproxy-splice", HAPROXY, "-v", recipes::haproxy_splice),
    peer("haproxy-new", HAPROXY_NEW, "-v", recipes::haproxy),
    peer("haproxy-new-splice", HAPROXY_NEW, "-v", recipes::haproxy_splice),
    peer("nginx", Program::Installed("nginx", "nginx libnginx-mod-stream"), "-v", recipes::nginx),
    peer("nginx-new", Program::Named("NGINX_NEW"), "-v", recipes::nginx),
    peer("rinetd", Program::Installed("rinetd", "rinetd"), "-v", recipes::rinetd),
    peer("rinetd-uv", Program::Named("RINETD_UV"), "-v", recipes::rinetd),
    peer("socat", Program::Installed("socat", "socat"), "-V", recipes::socat),
    peer("realm", Program::NamedOrInstalled("REALM", "realm"), "--version", recipes::realm),
    peer("gost", Program::NamedOrInstalled("GOST", "gost"), "-V", recipes::gost),
    peer("envoy", Program::NamedOrInstalled("ENVOY", "envoy"), "--version", recipes::envoy),
    process("tcprelay-quiet", Kind::Yardstick, OUR_PROGRAM, "--version", recipes::tcprelay_quiet),
    process(FLOOR, Kind::Yardstick, Program::Itself, "", recipes::floor),
    Contestant { name: "direct", kind: Kind::Yardstick, way: Way::Direct },
    Contestant { name: DNAT, kind: Kind::Yardstick, way: Way::Translation },
];

/// Returns the chosen contestants that can be measured, and a line for each chosen one that cannot.
pub fn find(options: &Options) -> (Vec<Contestant>, Vec<String>) {
    let is_chosen = |contestant: &Contestant| {
        options.relays.as_ref().is_none_or(|names| names.iter().any(|name| name == contestant.name))
    };
    let mut found: Vec<_> = ALL.into_iter().filter(is_chosen).collect();
    let mut missing = Vec::new();
    found.retain(|contestant| match contestant.what_is_missing() {
        Some(what) => {
            missing.push(format!("not measured: {}: {what}", contestant.name));
            false
        }
        None => true,
    });
    // The user's peers come before the yardsticks, as the other peers do.
    let yardsticks = found.iter().position(|contestant| contestant.kind == Kind::Yardstick);
    let place = yardsticks.unwrap_or(found.len());
    found.splice(place..place, options.peers.iter().cloned());
    (found, missing)
}

impl Contestant {
    /// Returns the name and version, as in `socat 1.7.4.4`. The floor, `direct` and `dnat` have no version.
    pub fn name_and_version(&self) -> String {
        let version = match &self.way {
            Way::Process { program: Program::Itself, .. } | Way::Direct | Way::Translation => String::new(),
            Way::Process { program, version, .. } => version_of(program.path(), version),
            Way::Command { program, .. } => version_of(Some(program.clone()), "--version"),
        };
        format!("{} {version}", self.name).trim_end().to_owned()
    }

    /// Returns the program that is started; `None` if there is none.
    pub fn program(&self) -> Option<PathBuf> {
        match &self.way {
            Way::Process { program, .. } => program.path(),
            Way::Command { program, .. } => Some(program.clone()),
            Way::Direct | Way::Translation => None,
        }
    }

    /// Returns the program's arguments and configuration; `None` if there is no program.
    pub fn start(&self, route: &Route) -> Option<Start> {
        match &self.way {
            Way::Process { recipe, .. } => Some(recipe(route)),
            Way::Command { arguments, .. } => Some(route.filled_in(arguments)),
            Way::Direct | Way::Translation => None,
        }
    }

    /// Returns the command line and the configuration as text for the report.
    pub fn configuration(&self) -> String {
        let Some(program) = self.program() else { return String::new() };
        let target = ([192, 0, 2, 7], 80).into();
        let route =
            Route { program: &program, port: 8080, target, sessions: 500, folder: Path::new("/run/peers") };
        let Some(Start { arguments, configuration }) = self.start(&route) else { return String::new() };
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        let name = if self.name == FLOOR { "peers" } else { &name };
        let lines = configuration.map(|(_, text)| text).unwrap_or_default();
        let lines = lines.lines().filter(|line| !line.is_empty()).map(|line| format!("    {line}\n"));
        let first = format!("{}: {name} {}\n", self.name, arguments.join(" "));
        std::iter::once(first).chain(lines).collect()
    }

    fn what_is_missing(&self) -> Option<String> {
        match &self.way {
            Way::Process { program, .. } => {
                let Some(path) = program.path() else { return Some(program.cure()) };
                let is_nginx = self.name.starts_with("nginx");
                let lacks_streams = is_nginx && recipes::nginx_stream_module(&path).is_none();
                lacks_streams.then(|| format!("it has no stream module; {}", program.cure()))
            }
            Way::Command { .. } | Way::Direct => None,
            Way::Translation => crate::namespace::what_is_missing(),
        }
    }
}

impl Program {
    fn path(self) -> Option<PathBuf> {
        match self {
            Self::Installed(name, _) => find_program(name),
            Self::NamedOrInstalled(variable, name) if named(variable).is_none() => find_program(name),
            Self::NamedOrInstalled(variable, _) | Self::Named(variable) => {
                named(variable).filter(|path| path.is_file())
            }
            Self::Itself => env::current_exe().ok(),
        }
    }

    fn cure(self) -> String {
        match self {
            Self::Installed(_, packages) => format!("not installed (Debian: {packages})"),
            Self::NamedOrInstalled(variable, _) | Self::Named(variable) => match named(variable) {
                Some(path) => format!("{variable}={} is no file", path.display()),
                None => format!("{variable}=PATH in the environment says where it is"),
            },
            Self::Itself => "this program has no path".to_owned(),
        }
    }
}

/// Returns the path in an environment variable.
fn named(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).map(PathBuf::from)
}

/// Parses a contestant from `NAME=COMMAND`.
pub fn parse(text: &str) -> Result<Contestant, String> {
    let (name, command) = text.split_once('=').ok_or("it takes NAME=COMMAND")?;
    let mut words = command.split_whitespace().map(str::to_owned);
    let program = words.next().as_deref().and_then(find_program).ok_or("there is no such program")?;
    if ALL.iter().any(|contestant| contestant.name == name) {
        return Err("that name is taken".to_owned());
    }
    // Leaked, because the other names are static.
    let name: &'static str = name.to_owned().leak();
    Ok(Contestant { name, kind: Kind::Peer, way: Way::Command { program, arguments: words.collect() } })
}

pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(SERVER_FOLDERS.map(PathBuf::from));
    // Joining an absolute name gives that name.
    folders.map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// Returns what a program prints on STDOUT and STDERR.
pub fn output(program: &Path, option: &str) -> Option<String> {
    let output = said(program, option).ok()?;
    Some(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

fn said(program: &Path, option: &str) -> io::Result<std::process::Output> {
    Command::new(program).arg(option).stdin(Stdio::null()).output()
}

/// Returns the first word of the program's output that looks like a version.
fn version_of(program: Option<PathBuf>, option: &str) -> String {
    let said = program.and_then(|program| output(&program, option)).unwrap_or_default();
    let mut words = said.split(|letter: char| !(letter.is_ascii_digit() || letter == '.'));
    let version = words.find(|word| word.contains('.') && word.starts_with(|c: char| c.is_ascii_digit()));
    version.unwrap_or("of unknown version").to_owned()
}
