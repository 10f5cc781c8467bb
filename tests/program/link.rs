//! A link with a round trip of 100 ms, between two hosts that each test makes for itself.
//!
//! Its ends are TUN devices, and a Python process carries packets between them, because few kernels have netem. This
//! needs root and Python. Without them a test prints the reason and checks nothing.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::admission::own_network;
use crate::support::skip::skipped;
use crate::support::{Kill, Start, net};
use crate::ways::Neighbour;

const ONE_WAY: Duration = Duration::from_millis(50);
/// The lateness that is allowed here. An idle machine adds 50 ms at most. A busy one may delay the relay, the link or
/// this test.
const BUSY: Duration = Duration::from_secs(1);
const IDLE: &str = "Session handler serial number 1 connecting 127.0.0.1 to 10.9.0.2 exceeded the idle timeout \
                    and has been terminated.";

/// Carries packets between the devices `near` and `far`, each 50 ms late.
const CARRY: &str = r#"
import collections, fcntl, os, select, struct, time
def tun(name):
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, 0x400454CA, struct.pack("16sH22x", name, 0x1001))
    return device
near, far = tun(b"near"), tun(b"far")
print("up", flush=True)
late = collections.deque()
while True:
    wait = max(0, late[0][0] - time.monotonic()) if late else None
    for device in select.select([near, far], [], [], wait)[0]:
        packet = os.read(device, 65536)
        late.append((time.monotonic() + 0.05, far if device == near else near, packet))
    while late and late[0][0] <= time.monotonic():
        _, device, packet = late.popleft()
        try:
            os.write(device, packet)
        except OSError:
            pass
"#;

/// The link from this network to a neighbour's. It is up until this value is dropped, which kills the carrier.
struct Link {
    _carrier: Kill,
    neighbour: Neighbour,
}

impl Link {
    /// Sets the link up. Returns None, and prints the reason, where that is impossible.
    fn new() -> Option<Self> {
        if !own_network("true") {
            return None;
        }
        let carrier = Command::new("python3")
            .args(["-c", CARRY])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| skipped(format_args!("python3: {error}")));
        let mut carrier = Kill(carrier.ok()?);
        let mut up = String::new();
        BufReader::new(carrier.0.stdout.take()?).read_line(&mut up).unwrap();
        if up.trim() != "up" {
            skipped("no TUN devices");
            return None;
        }
        let set_up = "ip address add 10.9.0.1/24 dev near; ip link set near up";
        assert!(Command::new("sh").args(["-ec", set_up]).status().unwrap().success());
        let neighbour = Neighbour::at("far", "ip address add 10.9.0.2/24 dev far; ip link set far up")?;
        Some(Self { _carrier: carrier, neighbour })
    }
}

#[test]
#[ignore = "takes half a minute"]
fn an_idle_timeout_is_punctual_over_a_link_of_100_ms() {
    let Some(link) = Link::new() else { return };
    let listener = link.neighbour.run(|| net::listen_on(([10, 9, 0, 2], 9000).into(), 16));
    // A few bytes count as moved once they are written, and many once they are acknowledged.
    for (port, count, acknowledged, seconds) in
        [(8001, 4, Duration::ZERO, 1), (8005, 200_000, ONE_WAY, 5), (8030, 200_000, ONE_WAY, 30)]
    {
        let relay = Start::to(net::address(&listener)).idle_timeout(seconds).start_on(port);
        let mut relay = relay.unwrap();
        let (mut requester, mut target) = relay.session(&listener);
        let written = Instant::now();
        requester.write_all(&vec![7; count]).unwrap();
        net::read_exactly(&mut target, count);
        assert!(written.elapsed() >= ONE_WAY, "the link is too fast");
        let start = if acknowledged.is_zero() { written } else { Instant::now() };
        let took = relay.log.wait_text(IDLE).at - start;
        let timeout = Duration::from_secs(seconds.into());
        eprintln!("{count} bytes, then {seconds} s of silence: ended after {took:?}");
        assert!(took >= timeout, "{took:?} is early");
        assert!(took < timeout + acknowledged + BUSY, "{took:?} is late");
    }
}
