//! The configuration of each relay: the one that its manual gives for this job, and nothing more.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::contestants::output;

/// The original's pool, in sessions. Our relay has it without an option.
const SESSIONS: usize = 500;

/// Folders in which nginx keeps its modules.
const NGINX_MODULES: [&str; 4] =
    ["/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/etc/nginx/modules", "/usr/share/nginx/modules"];

/// The job of a relay.
pub struct Route<'a> {
    /// The relay's program.
    pub program: &'a Path,
    pub port: u16,
    pub target: SocketAddr,
    /// Sessions that it must have room for.
    pub sessions: usize,
    /// Folder for its configuration and for the files that it writes.
    pub folder: &'a Path,
}

/// How a relay is started.
pub struct Start {
    pub arguments: Vec<String>,
    /// File to write first, with its text; `None` where the arguments are enough.
    pub configuration: Option<(PathBuf, String)>,
}

pub type Recipe = fn(&Route) -> Start;

pub fn tcprelay(route: &Route) -> Start {
    let Route { port, target, sessions, .. } = route;
    let pool = if *sessions > SESSIONS { format!("--sessions {sessions} ") } else { String::new() };
    words(&format!("{pool}{port} {} {} ANY 3 1800 3600 4000", target.ip(), target.port()))
}

/// Starts our relay with a log like the others', which has no line for a connection that goes well.
pub fn tcprelay_quiet(route: &Route) -> Start {
    let Start { mut arguments, configuration } = tcprelay(route);
    arguments.splice(0..0, ["--log-level".to_owned(), "problems".to_owned()]);
    Start { arguments, configuration }
}

pub fn floor(route: &Route) -> Start {
    words(&format!("{} {} {}", crate::floor::ARGUMENT, route.port, route.target))
}

pub fn haproxy(route: &Route) -> Start {
    haproxy_with(route, "")
}

pub fn haproxy_splice(route: &Route) -> Start {
    haproxy_with(route, "\n  option splice-auto")
}

fn haproxy_with(route: &Route, option: &str) -> Start {
    let Route { port, target, sessions, .. } = route;
    let configuration = format!(
        "global
  nbthread 1
  maxconn {sessions}
defaults
  mode tcp
  timeout connect 3s
  timeout client 1800s
  timeout server 1800s{option}
listen relay
  bind 127.0.0.1:{port}
  server target {target}
"
    );
    route.configured(&["-db", "-f"], "haproxy.cfg", configuration)
}

pub fn nginx(route: &Route) -> Start {
    let Route { program, port, target, sessions, folder } = route;
    let module = nginx_stream_module(program).unwrap_or_default();
    let (folder, connections) = (folder.display(), 2 * sessions + 100);
    let configuration = format!(
        "{module}
daemon off;
master_process off;
worker_processes 1;
worker_rlimit_nofile {connections};
pid {folder}/nginx.pid;
error_log stderr crit;
events {{ worker_connections {connections}; }}
stream {{
  proxy_timeout 1800s;
  server {{ listen 127.0.0.1:{port} backlog=4096; proxy_pass {target}; }}
}}
"
    );
    route.configured(&["-c"], "nginx.conf", configuration)
}

/// Returns the line with which nginx loads its stream module, empty where the module is built in; `None` if
/// there is no such module.
pub fn nginx_stream_module(program: &Path) -> Option<String> {
    let built_in = output(program, "-V")?.split(' ').any(|word| word.trim() == "--with-stream");
    if built_in {
        return Some(String::new());
    }
    let mut paths = NGINX_MODULES.iter().map(|folder| Path::new(folder).join("ngx_stream_module.so"));
    let module = paths.find(|path| path.exists())?;
    Some(format!("load_module {};", module.display()))
}

pub fn rinetd(route: &Route) -> Start {
    let Route { port, target, folder, .. } = route;
    let folder = folder.display();
    let configuration =
        format!("pidlogfile {folder}/rinetd.pid\n127.0.0.1 {port} {} {}\n", target.ip(), target.port());
    route.configured(&["-f", "-c"], "rinetd.conf", configuration)
}

pub fn socat(route: &Route) -> Start {
    let Route { port, target, .. } = route;
    words(&format!("TCP-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr,backlog=1024 TCP:{target}"))
}

pub fn realm(route: &Route) -> Start {
    words(&format!("-l 127.0.0.1:{} -r {}", route.port, route.target))
}

pub fn gost(route: &Route) -> Start {
    words(&format!("-L tcp://127.0.0.1:{}/{}", route.port, route.target))
}

pub fn envoy(route: &Route) -> Start {
    let Route { port, target, sessions, .. } = route;
    let (host, target_port) = (target.ip(), target.port());
    let configuration = format!(
        "static_resources:
  listeners:
  - address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
    filter_chains:
    - filters:
      - name: envoy.filters.network.tcp_proxy
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
          stat_prefix: relay
          cluster: target
          idle_timeout: 1800s
  clusters:
  - name: target
    type: STATIC
    connect_timeout: 3s
    circuit_breakers: {{ thresholds: [ {{ max_connections: {sessions} }} ] }}
    load_assignment:
      cluster_name: target
      endpoints:
      - lb_endpoints:
        - endpoint:
            address: {{ socket_address: {{ address: {host}, port_value: {target_port} }} }}
"
    );
    route.configured(&["--concurrency", "1", "--disable-hot-restart", "-c"], "envoy.yaml", configuration)
}

impl Route<'_> {
    /// Returns a command line that ends with the path of the configuration file.
    fn configured(&self, options: &[&str], file: &str, text: String) -> Start {
        let path = self.folder.join(file);
        let words = options.iter().copied().map(str::to_owned);
        let arguments = words.chain([path.display().to_string()]).collect();
        Start { arguments, configuration: Some((path, text)) }
    }

    /// Fills in the placeholders `{port}`, `{host}`, `{target-port}`, `{target}` and `{sessions}` of a
    /// command line.
    pub fn filled_in(&self, template: &[String]) -> Start {
        let fill = |word: &String| {
            word.replace("{port}", &self.port.to_string())
                .replace("{host}", &self.target.ip().to_string())
                .replace("{target-port}", &self.target.port().to_string())
                .replace("{target}", &self.target.to_string())
                .replace("{sessions}", &self.sessions.to_string())
        };
        Start { arguments: template.iter().map(fill).collect(), configuration: None }
    }
}

fn words(line: &str) -> Start {
    Start { arguments: line.split(' ').map(str::to_owned).collect(), configuration: None }
}
