//! The example that the help and the README draw: host A relays C's requests to B's web server.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;

use crate::support::catalogue::filled;
use crate::support::net::{self, End};
use crate::support::{self, Relay, Start};

/// A is the relay on 127.0.0.1. Free ports stand in for 8080 and 80, which may be taken or privileged.
const B: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const C: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

/// Starts the relay of `tcprelay 8080 B 80 C/255.255.255.255 1 30 600 4000`.
fn figure_one(web_server: &TcpListener) -> Relay {
    let target = net::address(web_server);
    Start::to(target)
        .acl(&format!("{C}/255.255.255.255"))
        .connect_timeout(1)
        .idle_timeout(30)
        .absolute_timeout(600)
        .buf(4000)
        .start()
}

/// Serves one request over HTTP/1.1 and closes. Returns the head of the request.
fn serve(mut stream: TcpStream, body: &[u8]) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.extend(net::read_exactly(&mut stream, 1));
    }
    let length = body.len();
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    stream.write_all(answer.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    String::from_utf8(head).unwrap()
}

/// Returns the body of an answer, as an HTTP client finds it.
fn body_of(answer: &[u8]) -> &[u8] {
    let split = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let (head, body) = answer.split_at(split.unwrap() + 4);
    let head = str::from_utf8(head).unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"));
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    assert_eq!(length.unwrap().parse(), Ok(body.len()));
    body
}

/// Returns a message of the first session, from C to B.
fn of_c(number: u8) -> String {
    filled(number, &[("<ser num>", "1"), ("<rqst IP addr>", &C.to_string()), ("<trg host>", &B.to_string())])
}

#[test]
fn c_gets_the_page_of_bs_web_server_through_a() {
    let web_server = net::listen_on(SocketAddr::from((B, 0)), 16);
    let mut relay = figure_one(&web_server);
    let page = net::random(1, 300_000);
    let page_served = page.clone();
    let server = thread::spawn(move || {
        let stream = net::accept(&web_server);
        let seen_by_b = stream.peer_addr().unwrap().ip();
        (seen_by_b, serve(stream, &page_served))
    });

    let mut browser = relay.connect_from(C);
    let request = "GET /index.html HTTP/1.1\r\nHost: gateway.example\r\nConnection: close\r\n\r\n";
    browser.write_all(request.as_bytes()).unwrap();
    let (answer, end) = net::read_all(&mut browser);
    drop(browser);

    net::assert_same(body_of(&answer), &page);
    assert_eq!(end, End::Clean);
    let (seen_by_b, head) = server.join().unwrap();
    assert_eq!(head, request);
    assert_ne!(seen_by_b, C, "B sees C's address instead of A's");
    for number in support::STARTED {
        relay.log.expect_text(&of_c(number));
    }
    relay.log.expect_text(&of_c(38));
}

#[test]
fn only_c_gets_through() {
    let web_server = net::listen_on(SocketAddr::from((B, 0)), 16);
    let mut relay = figure_one(&web_server);

    let mut stranger = relay.connect();
    assert_eq!(net::read_all(&mut stranger), (Vec::new(), End::Reset));
    relay.log.expect(16, 0);
    relay.log.expect(17, 0);

    let mut requester = relay.connect_from(C);
    let mut target = net::accept(&web_server);
    net::assert_passes(&mut requester, &mut target, b"GET / HTTP/1.1\r\n\r\n");
    relay.log.expect_text(&of_c(16));
    relay.log.expect_text(&of_c(18));
    // The stranger took no serial number, so C's session has the first.
    relay.log.expect_text(&of_c(26));
}
