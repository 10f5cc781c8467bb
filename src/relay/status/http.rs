//! As much of HTTP as a status needs: bytes in, answer out.
//!
//! A request is a GET or a HEAD of one of three pages. It has no body, and its connection ends with the
//! answer. An attacker can point a name at this host and lead a browser here (DNS rebinding). So only
//! requests that name an address or `localhost` are answered.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::limits::STATUS_REQUEST_BYTES;

/// A request that can be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// The page that it asks for.
    pub page: Page,
    /// The order of the sessions on the page.
    pub order: Order,
    /// Whether it asks for the header fields alone.
    pub is_head: bool,
}

/// The pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// `/`, for people.
    Overview,
    /// `/metrics`, for Prometheus.
    Metrics,
    /// `/status.json`, for programs.
    Json,
}

/// The order of sessions. An answer lists only the first ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The oldest first.
    #[default]
    Oldest,
    /// Those that have moved the most bytes first.
    Bytes,
    /// Those that have been idle for longest first.
    Idle,
}

/// Why a request is not answered with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Bytes that are no HTTP/1 request.
    Malformed,
    /// A host that is neither an address nor `localhost`.
    Misdirected,
    /// A path without a page.
    NotFound,
    /// A method other than GET and HEAD.
    Method,
    /// A request that is too long for the buffer.
    TooLong,
    /// A version of HTTP other than 1.0 and 1.1.
    Version,
}

impl Refusal {
    /// Returns the end of the status line, and a sentence that explains it.
    #[must_use]
    pub fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Malformed => ("400 Bad Request", "This is no request of HTTP/1."),
            Self::NotFound => ("404 Not Found", "There are /, /metrics and /status.json."),
            Self::Method => ("405 Method Not Allowed", "There are GET and HEAD."),
            Self::Misdirected => {
                ("421 Misdirected Request", "Ask for an IP address or localhost, not for another name.")
            }
            Self::TooLong => ("431 Request Header Fields Too Large", "A request has 1024 bytes at the most."),
            Self::Version => ("505 HTTP Version Not Supported", "There are HTTP/1.0 and HTTP/1.1."),
        }
    }
}

/// Reads a request from the bytes that have arrived so far; `None`: it is not complete.
#[must_use]
#[inline(never)]
pub fn read(bytes: &[u8]) -> Option<Result<Request, Refusal>> {
    match head(bytes) {
        Some(head) => Some(judge(head)),
        None => (bytes.len() >= STATUS_REQUEST_BYTES).then_some(Err(Refusal::TooLong)),
    }
}

/// Returns the lines before the empty one; `None`: that has not arrived.
fn head(bytes: &[u8]) -> Option<&[u8]> {
    let mut start = 0;
    for line in bytes.split_inclusive(|&byte| byte == b'\n') {
        if matches!(line, b"\n" | b"\r\n") {
            return Some(&bytes[..start]);
        }
        start += line.len();
    }
    None
}

fn judge(head: &[u8]) -> Result<Request, Refusal> {
    let is_plain = |&byte: &u8| matches!(byte, b' '..=b'~' | b'\t' | b'\r' | b'\n');
    let head = str::from_utf8(head).ok().filter(|head| head.as_bytes().iter().all(is_plain));
    let lines = head.ok_or(Refusal::Malformed)?.split_terminator('\n');
    let mut lines = lines.map(|line| line.strip_suffix('\r').unwrap_or(line));
    let mut words = lines.next().unwrap_or("").split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Refusal::Malformed);
    };
    if !is_token(method) || target.is_empty() || target.contains(['\t', '\r']) {
        return Err(Refusal::Malformed);
    }
    let needs_host = match version {
        "HTTP/1.1" => true,
        "HTTP/1.0" => false,
        _ if version.starts_with("HTTP/") => return Err(Refusal::Version),
        _ => return Err(Refusal::Malformed),
    };
    // A request meant for a proxy names the host a second time.
    let (host, path) = match target.strip_prefix("http://") {
        Some(rest) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
        None => ("localhost", target),
    };
    let path = if path.is_empty() { "/" } else { path };
    let header = host_field(&mut lines)?;
    if header.is_none() && needs_host {
        return Err(Refusal::Malformed);
    }
    if ![Some(host), header].into_iter().flatten().all(is_this_host) {
        return Err(Refusal::Misdirected);
    }
    let is_head = match method {
        "GET" => false,
        "HEAD" => true,
        _ => return Err(Refusal::Method),
    };
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let page = match path {
        "/" => Page::Overview,
        "/metrics" => Page::Metrics,
        "/status.json" => Page::Json,
        _ => return Err(Refusal::NotFound),
    };
    Ok(Request { page, order: order(query), is_head })
}

/// Returns the value of the field Host; `None`: there is none.
///
/// # Errors
/// A line is no field, or there are two such fields.
fn host_field<'a>(lines: &mut dyn Iterator<Item = &'a str>) -> Result<Option<&'a str>, Refusal> {
    let mut host = None;
    for line in lines {
        let (name, value) = line.split_once(':').ok_or(Refusal::Malformed)?;
        if !is_token(name) || value.contains('\r') {
            return Err(Refusal::Malformed);
        }
        if name.eq_ignore_ascii_case("host") && host.replace(value.trim_ascii()).is_some() {
            return Err(Refusal::Malformed);
        }
    }
    Ok(host)
}

#[inline(never)]
fn is_token(text: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_letter)
}

/// Returns whether a host is an address or `localhost`, with a port or without.
#[inline(never)]
fn is_this_host(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) if address.parse::<Ipv6Addr>().is_ok() => ("localhost", port),
        Some(_) => return false,
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let is_port = port.is_empty()
        || port.strip_prefix(':').is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
    is_port && (name.eq_ignore_ascii_case("localhost") || name.parse::<Ipv4Addr>().is_ok())
}

fn order(query: &str) -> Order {
    match query.split('&').find_map(|part| part.strip_prefix("sort=")) {
        Some("bytes") => Order::Bytes,
        Some("idle") => Order::Idle,
        _ => Order::Oldest,
    }
}

/// Returns an answer: its status line, its header fields, and the body unless the request was a HEAD.
#[must_use]
pub fn answer(status: &str, kind: &str, body: &str, is_head: bool) -> Vec<u8> {
    let length = body.len();
    let allow = if status.starts_with("405") { "Allow: GET, HEAD\r\n" } else { "" };
    let shown = if is_head { "" } else { body };
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}; charset=utf-8\r\nContent-Length: {length}\r\n{allow}\
         Cache-Control: no-store\r\nContent-Security-Policy: default-src 'none'; style-src 'unsafe-inline'\r\n\
         X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n{shown}"
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(target: &str) -> Option<Result<Request, Refusal>> {
        read(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())
    }

    #[test]
    fn each_page_is_found_in_each_order() {
        let request = |page, order| Some(Ok(Request { page, order, is_head: false }));
        for (target, page, order) in [
            ("/", Page::Overview, Order::Oldest),
            ("/?sort=bytes", Page::Overview, Order::Bytes),
            ("/?a=b&sort=idle", Page::Overview, Order::Idle),
            ("/?sort=age", Page::Overview, Order::Oldest),
            ("/metrics", Page::Metrics, Order::Oldest),
            ("/status.json?sort=idle", Page::Json, Order::Idle),
            ("http://127.0.0.1:9100/metrics", Page::Metrics, Order::Oldest),
            ("http://[::1]", Page::Overview, Order::Oldest),
        ] {
            assert_eq!(get(target), request(page, order), "{target}");
        }
        assert_eq!(get("/nothing"), Some(Err(Refusal::NotFound)));
        assert_eq!(get("/metrics/"), Some(Err(Refusal::NotFound)));
        assert_eq!(get("?sort=idle"), Some(Err(Refusal::NotFound)));
        assert_eq!(get("http://evil.example/metrics"), Some(Err(Refusal::Misdirected)));
        let head = read(b"HEAD /metrics HTTP/1.0\n\n").unwrap().unwrap();
        assert!(head.is_head);
    }

    #[test]
    fn a_host_is_an_address_or_localhost_and_no_other_name() {
        for host in
            ["localhost", "LocalHost:9100", "127.0.0.1", "192.0.2.9:80", "[::1]", "[2001:db8::1]:9100"]
        {
            assert!(is_this_host(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "127.0.0.1:80:80",
            "[::1",
            "[::1]x",
            "[evil]",
            "localhost:x",
            "::1",
            "127.1",
            "0x7f000001",
            "2130706433",
        ] {
            assert!(!is_this_host(host), "{host}");
        }
    }

    #[test]
    fn a_request_is_read_when_its_empty_line_has_come_and_refused_when_it_is_too_long() {
        let whole = b"GET / HTTP/1.1\r\nHost: [::1]\r\nX: y\r\n\r\n";
        for length in 0..whole.len() {
            assert_eq!(read(&whole[..length]), None);
        }
        assert!(read(whole).is_some_and(|request| request.is_ok()));
        assert_eq!(read(&[b'a'; STATUS_REQUEST_BYTES - 1]), None);
        assert_eq!(read(&[b'a'; STATUS_REQUEST_BYTES]), Some(Err(Refusal::TooLong)));
        assert!(Refusal::TooLong.words().1.contains(&format!(" {STATUS_REQUEST_BYTES} bytes")));
    }

    #[test]
    fn a_bad_request_gets_the_refusal_for_its_fault() {
        for (request, refusal) in [
            ("\r\n", Refusal::Malformed),
            ("GET / HTTP/1.1\r\n\r\n", Refusal::Malformed),
            ("GET /\r\n\r\n", Refusal::Malformed),
            ("GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", Refusal::Malformed),
            ("GET / HTTP/1.1\r\nHost: localhost\r\n folded: x\r\n\r\n", Refusal::Malformed),
            ("GET / HTTP/2.0\r\nHost: localhost\r\n\r\n", Refusal::Version),
            ("PRI * HTTP/2.0\r\n\r\n", Refusal::Version),
            ("POST / HTTP/1.1\r\nHost: localhost\r\n\r\n", Refusal::Method),
            ("POST / HTTP/1.1\r\nHost: evil.example\r\n\r\n", Refusal::Misdirected),
        ] {
            assert_eq!(read(request.as_bytes()), Some(Err(refusal)), "{request:?}");
        }
    }

    #[test]
    fn an_answer_to_head_says_the_length_of_the_body_that_it_leaves_out() {
        let text = String::from_utf8(answer("200 OK", "text/plain", "body", true)).unwrap();
        assert!(text.contains("\r\nContent-Length: 4\r\n") && text.ends_with("\r\n\r\n"), "{text}");
        assert!(answer("200 OK", "text/plain", "body", false).ends_with(b"\r\n\r\nbody"));
    }
}
