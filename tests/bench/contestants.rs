//! The relays: which there are, how each is configured and started, and how it ends.

use std::env;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::options::Options;
use crate::process;

/// The name of our own relay.
pub const OURS: &str = "tcprelay";

/// Every relay, ours first.
pub const ALL: [Contestant; 7] = [
    Contestant {
        name: OURS,
        program: env!("CARGO_BIN_EXE_tcprelay"),
        version: "--version",
        package: "",
        start: tcprelay,
    },
    Contestant { name: "haproxy", program: "haproxy", version: "-v", package: "haproxy", start: haproxy },
    Contestant {
        name: "haproxy-splice",
        program: "haproxy",
        version: "-v",
        package: "haproxy",
        start: haproxy_splice,
    },
    Contestant {
        name: "nginx",
        program: "nginx",
        version: "-v",
        package: "nginx libnginx-mod-stream",
        start: nginx,
    },
    Contestant { name: "rinetd", program: "rinetd", version: "-v", package: "rinetd", start: rinetd },
    Contestant { name: "socat", program: "socat", version: "-V", package: "socat", start: socat },
    Contestant {
        name: "realm",
        program: "realm",
        version: "--version",
        package: "none; a binary from github.com/zhboner/realm goes on PATH",
        start: realm,
    },
];

/// Where Debian keeps servers, which is not on everybody's PATH.
const SERVER_FOLDERS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// Where nginx keeps its modules.
const NGINX_MODULES: [&str; 4] =
    ["/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/etc/nginx/modules", "/usr/share/nginx/modules"];

/// How long a relay may take to listen.
const START_PATIENCE: Duration = Duration::from_secs(3);
/// How long the sessions of a relay may take to end.
const END_PATIENCE: Duration = Duration::from_secs(2);
/// How often these are looked at.
const BEAT: Duration = Duration::from_millis(5);

/// Below the ports that the kernel gives to outgoing connections.
const PORTS: std::ops::Range<u16> = 20_000..30_000;

/// A relay that can be measured.
#[derive(Clone, Copy)]
pub struct Contestant {
    pub name: &'static str,
    program: &'static str,
    /// The option that makes the program tell its version.
    version: &'static str,
    /// Debian packages that have it.
    pub package: &'static str,
    /// Its command line, and the configuration file that it needs.
    start: fn(&Route) -> Start,
}

/// What a relay is to do.
struct Route<'a> {
    port: u16,
    target: SocketAddr,
    workplace: &'a Workplace,
}

/// How a relay is started.
struct Start {
    arguments: Vec<String>,
    /// Is written to the path of [`Route::configuration`].
    configuration: Option<String>,
}

/// Those of the chosen relays that are installed, and those that are not.
pub fn find(options: &Options) -> (Vec<Contestant>, Vec<Contestant>) {
    let is_chosen = |contestant: &Contestant| {
        options.relays.as_ref().is_none_or(|names| names.iter().any(|name| name == contestant.name))
    };
    ALL.into_iter().filter(is_chosen).partition(Contestant::is_installed)
}

impl Contestant {
    /// As in `socat 1.7.4.4`.
    pub fn name_and_version(&self) -> String {
        let version = self.version().unwrap_or_else(|| "of unknown version".to_owned());
        format!("{} {version}", self.name)
    }

    fn is_installed(&self) -> bool {
        self.path().is_some() && (self.program != "nginx" || nginx_stream_module().is_some())
    }

    fn path(&self) -> Option<PathBuf> {
        find_program(self.program)
    }

    /// The first thing in what the program says that looks like a version.
    fn version(&self) -> Option<String> {
        let said = output(self.program, self.version)?;
        let mut words = said.split(|letter: char| !(letter.is_ascii_digit() || letter == '.'));
        words
            .find(|word| word.contains('.') && word.starts_with(|c: char| c.is_ascii_digit()))
            .map(str::to_owned)
    }
}

fn tcprelay(route: &Route) -> Start {
    let Route { port, target, .. } = route;
    let arguments = format!("{port} {} {} ANY 3 1800 3600 4000", target.ip(), target.port());
    Start { arguments: arguments.split(' ').map(str::to_owned).collect(), configuration: None }
}

fn haproxy(route: &Route) -> Start {
    haproxy_with(route, "")
}

fn haproxy_splice(route: &Route) -> Start {
    haproxy_with(route, "option splice-auto")
}

fn haproxy_with(route: &Route, option: &str) -> Start {
    let Route { port, target, .. } = route;
    let configuration = format!(
        "global
  nbthread 1
  maxconn 1000
defaults
  mode tcp
  timeout connect 3s
  timeout client 1800s
  timeout server 1800s
  {option}
listen relay
  bind 127.0.0.1:{port}
  server target {target}
"
    );
    route.configured(&["-db", "-f"], configuration)
}

fn nginx(route: &Route) -> Start {
    let Route { port, target, workplace } = route;
    let module = nginx_stream_module().unwrap_or_default();
    let folder = workplace.folder.display();
    let configuration = format!(
        "{module}
daemon off;
master_process off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr crit;
events {{ worker_connections 2000; }}
stream {{
  proxy_timeout 1800s;
  server {{ listen 127.0.0.1:{port} backlog=4096; proxy_pass {target}; }}
}}
"
    );
    route.configured(&["-c"], configuration)
}

/// What the configuration must say for nginx to relay streams: nothing where that is built in,
/// `None` where it is not to be had.
fn nginx_stream_module() -> Option<String> {
    let mut paths = NGINX_MODULES.iter().map(|folder| Path::new(folder).join("ngx_stream_module.so"));
    let module = paths.find(|path| path.exists());
    let built_in = || output("nginx", "-V")?.split(' ').any(|word| word == "--with-stream").then(String::new);
    module.map(|path| format!("load_module {};", path.display())).or_else(built_in)
}

fn rinetd(route: &Route) -> Start {
    let Route { port, target, workplace } = route;
    let folder = workplace.folder.display();
    let configuration =
        format!("pidlogfile {folder}/rinetd.pid\n127.0.0.1 {port} {} {}\n", target.ip(), target.port());
    route.configured(&["-f", "-c"], configuration)
}

fn socat(route: &Route) -> Start {
    let Route { port, target, .. } = route;
    let listen = format!("TCP-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr,backlog=1024");
    Start { arguments: vec![listen, format!("TCP:{target}")], configuration: None }
}

fn realm(route: &Route) -> Start {
    let Route { port, target, .. } = route;
    let arguments = ["-l", &format!("127.0.0.1:{port}"), "-r", &target.to_string()];
    Start { arguments: arguments.map(str::to_owned).to_vec(), configuration: None }
}

impl Route<'_> {
    /// A command line that ends with the path of the configuration file.
    fn configured(&self, options: &[&str], configuration: String) -> Start {
        let mut arguments: Vec<_> = options.iter().map(|&option| option.to_owned()).collect();
        arguments.push(self.configuration().display().to_string());
        Start { arguments, configuration: Some(configuration) }
    }

    fn configuration(&self) -> PathBuf {
        self.workplace.folder.join("relay.conf")
    }
}

/// A temporary folder for configurations and logs. It goes when this is dropped.
pub struct Workplace {
    folder: PathBuf,
}

impl Workplace {
    pub fn new() -> io::Result<Self> {
        let folder = env::temp_dir().join(format!("tcprelay-peers-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        Ok(Self { folder })
    }

    fn log(&self) -> PathBuf {
        self.folder.join("relay.log")
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A relay that was started. It ends, with all its children, when this is dropped.
pub struct Running {
    child: Child,
    address: SocketAddr,
}

impl Running {
    /// Starts the relay in front of `target` and waits until it listens.
    pub fn start(contestant: &Contestant, target: SocketAddr, workplace: &Workplace) -> io::Result<Self> {
        let port = free_port()?;
        let route = Route { port, target, workplace };
        let Start { arguments, configuration } = (contestant.start)(&route);
        if let Some(text) = configuration {
            fs::write(route.configuration(), text)?;
        }
        let log = File::create(workplace.log())?;
        let child = Command::new(contestant.path().ok_or(io::ErrorKind::NotFound)?)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // So that the processes which it may start can be ended with it.
            .process_group(0)
            .spawn()?;
        let mut running = Self { child, address: (Ipv4Addr::LOCALHOST, port).into() };
        running.wait_until_it_listens(workplace)?;
        Ok(running)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn wait_until_it_listens(&mut self, workplace: &Workplace) -> io::Result<()> {
        let start = Instant::now();
        while TcpStream::connect_timeout(&self.address, START_PATIENCE).is_err() {
            if self.child.try_wait()?.is_some() || start.elapsed() > START_PATIENCE {
                let log = fs::read_to_string(workplace.log()).unwrap_or_default();
                let last = log.lines().last().unwrap_or("and says nothing");
                return Err(io::Error::other(format!("does not listen: {last}")));
            }
            thread::sleep(BEAT);
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A relay with a process for each session gets the time to see them end: one that ends
        // after its parent would be left to somebody else.
        let start = Instant::now();
        while start.elapsed() < END_PATIENCE && process::has_children(self.pid()) {
            thread::sleep(BEAT);
        }
        // The group has the number of its first process, which is ours as long as nobody waited
        // for that process: no other group can be hit.
        let group = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        if let Some(group) = group {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

/// A port that nobody listens on. Each call finds another one.
fn free_port() -> io::Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Runs that are under way at the same time begin at different ports.
    let first = std::process::id() % u32::from(PORTS.end - PORTS.start);
    let first = u16::try_from(first).unwrap_or_default();
    for _ in PORTS {
        let port = PORTS.start + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % (PORTS.end - PORTS.start);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}

fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(SERVER_FOLDERS.map(PathBuf::from));
    // An absolute name stays what it is.
    folders.map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// What a program says, on whichever output.
fn output(program: &str, option: &str) -> Option<String> {
    let output = Command::new(find_program(program)?).arg(option).stdin(Stdio::null()).output().ok()?;
    Some(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}
