//! Requests for the status against an oracle that follows the grammar.
//!
//! An input is the bytes that come over a connection. The oracle: the parser judges a request once its empty
//! line is there or it is too long, the bytes behind change nothing, and only a request that names this host
//! is answered.

use tcprelay::internal::http::{Order, Page, Refusal, Request, answer, read};
use tcprelay::internal::limits::STATUS_REQUEST_BYTES;

/// Checks one input.
///
/// # Panics
/// The parser and the oracle disagree.
pub fn check(input: &[u8]) {
    let end = (1..=input.len()).find(|&end| {
        let head = &input[..end];
        head == b"\n" || head == b"\r\n" || head.ends_with(b"\n\n") || head.ends_with(b"\n\r\n")
    });
    let judged = end.map(|end| judge(&input[..end]));
    let at_end = end.unwrap_or(0);
    for length in [0, 1.min(input.len()), input.len() / 2, at_end.saturating_sub(1), at_end, input.len()] {
        let expected = match end {
            Some(end) if length >= end => judged,
            _ => (length >= STATUS_REQUEST_BYTES).then_some(Err(Refusal::TooLong)),
        };
        assert_eq!(
            read(&input[..length]),
            expected,
            "{length} bytes of {:?}",
            String::from_utf8_lossy(input)
        );
    }
    if let Some(Err(refusal)) = judged {
        check_answer(refusal);
    }
}

/// Checks that the answer's head ends with its only empty line, and gives the length of the body.
fn check_answer(refusal: Refusal) {
    let (status, reason) = refusal.words();
    let whole = String::from_utf8(answer(status, "text/plain", reason, false)).unwrap();
    let head = String::from_utf8(answer(status, "text/plain", reason, true)).unwrap();
    assert_eq!(whole, head.clone() + reason);
    assert!(
        head.starts_with(&format!("HTTP/1.1 {status}\r\n")) && head.find("\r\n\r\n") == Some(head.len() - 4)
    );
    assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", reason.len())));
}

/// Returns the outcome that a request must have, its empty line included.
fn judge(request: &[u8]) -> Result<Request, Refusal> {
    let Ok(text) = String::from_utf8(request.to_vec()) else { return Err(Refusal::Malformed) };
    if text
        .chars()
        .any(|letter| !letter.is_ascii() || letter.is_ascii_control() && !"\t\r\n".contains(letter))
    {
        return Err(Refusal::Malformed);
    }
    let text = text.replace("\r\n", "\n");
    let mut lines: Vec<&str> = text.split('\n').collect();
    // Drops the empty line, and the empty part behind it.
    lines.truncate(lines.len() - 2);
    let Some((first, fields)) = lines.split_first() else { return Err(Refusal::Malformed) };
    let words: Vec<&str> = first.split(' ').collect();
    let &[method, target, version] = words.as_slice() else { return Err(Refusal::Malformed) };
    if !token(method) || target.is_empty() || target.chars().any(char::is_control) {
        return Err(Refusal::Malformed);
    }
    if version != "HTTP/1.0" && version != "HTTP/1.1" {
        return Err(if version.starts_with("HTTP/") { Refusal::Version } else { Refusal::Malformed });
    }
    let mut hosts = hosts(fields)?;
    if hosts.len() > 1 || hosts.is_empty() && version == "HTTP/1.1" {
        return Err(Refusal::Malformed);
    }
    let mut path = target.to_owned();
    if let Some(rest) = target.strip_prefix("http://") {
        let (host, rest) = rest.split_once('/').map_or((rest, ""), |(host, rest)| (host, rest));
        hosts.push(host);
        path = format!("/{rest}");
    }
    if !hosts.into_iter().all(this_host) {
        return Err(Refusal::Misdirected);
    }
    if method != "GET" && method != "HEAD" {
        return Err(Refusal::Method);
    }
    let query = path.find('?').map_or(String::new(), |at| path.split_off(at));
    let page = match path.as_str() {
        "/" => Page::Overview,
        "/metrics" => Page::Metrics,
        "/status.json" => Page::Json,
        _ => return Err(Refusal::NotFound),
    };
    let sort = query.strip_prefix('?').unwrap_or_default().split('&').find(|part| part.starts_with("sort="));
    let order = match sort {
        Some("sort=bytes") => Order::Bytes,
        Some("sort=idle") => Order::Idle,
        _ => Order::Oldest,
    };
    Ok(Request { page, order, is_head: method == "HEAD" })
}

/// Returns the values of the fields called Host.
fn hosts<'a>(fields: &[&'a str]) -> Result<Vec<&'a str>, Refusal> {
    let mut hosts = Vec::new();
    for field in fields {
        let colon = field.find(':').ok_or(Refusal::Malformed)?;
        let value = &field[colon + 1..];
        if !token(&field[..colon]) || value.chars().any(|letter| letter != '\t' && letter.is_control()) {
            return Err(Refusal::Malformed);
        }
        if field[..colon].eq_ignore_ascii_case("host") {
            hosts.push(value.trim_matches(|letter| letter == ' ' || letter == '\t'));
        }
    }
    Ok(hosts)
}

fn token(text: &str) -> bool {
    let separators = "\"(),/:;<=>?@[\\]{} \t";
    !text.is_empty() && text.chars().all(|letter| letter.is_ascii_graphic() && !separators.contains(letter))
}

/// Returns whether `text` is `localhost` or an address, with or without a colon and digits behind it.
fn this_host(text: &str) -> bool {
    let digits = |text: &str| text.chars().all(|letter| letter.is_ascii_digit());
    let bare = match text.rfind(':') {
        Some(colon) if digits(&text[colon + 1..]) && !text.ends_with(']') => &text[..colon],
        _ => text,
    };
    let bracketed = bare.starts_with('[') && bare.ends_with(']') && bare.len() > 2;
    if bracketed && bare[1..bare.len() - 1].parse::<std::net::Ipv6Addr>().is_ok() {
        return true;
    }
    let parts: Vec<&str> = bare.split('.').collect();
    let octet = |part: &&str| part.parse::<u8>().is_ok_and(|number| number.to_string() == **part);
    bare.eq_ignore_ascii_case("localhost") || parts.len() == 4 && parts.iter().all(octet)
}
