//! The original's messages, written out again here rather than taken from the relay. So a slip in either copy
//! shows.

use std::io;

use rustix::io::Errno;

/// Number and text of each message. [`filled`] fills in the placeholders.
const TEXTS: [(u8, &str); 39] = [
    (1, "Error: This system does not provide a high resolution timer."),
    (2, "Error: <fwd port> must be between 1 and 65535 inclusive."),
    (3, "Error: Invalid IP address specified for <trg host>."),
    (4, "Error: <trg port> must be between 1 and 65535 inclusive."),
    (5, "Error: <ACL> needs to be keyword ANY, or dotted decimal IP/mask notation."),
    (6, "Error: <c t/o> must be between 1 and 3 inclusive."),
    (7, "Error: <i t/o> must be between 1 and 1800 inclusive."),
    (8, "Error: <buf> must be between 100 and 4000 inclusive."),
    (9, "Error: WinSock initialization failure."),
    (10, "Error: WinSock version must be at least 2.0."),
    (11, "Error: Listener socket creation failure."),
    (12, "Error: Could not bind listener port to socket."),
    (13, "Error: Listener failed to initialize."),
    (14, "Error: Unable to start the maintenance thread."),
    (
        15,
        "The relayer is now active. Data received on TCP port <fwd port> will be forwarded to <trg host> port \
         <trg port>...",
    ),
    (16, "Connection attempt made from <rqst IP addr>."),
    (17, "Connection from <rqst IP addr> rejected due to ACL mismatch."),
    (18, "Connection from <rqst IP addr> was accepted. Allocating a session handler."),
    (19, "Could not allocate a socket to target <trg host>. Request from <rqst IP addr> aborted."),
    (20, "Connection from <rqst IP addr> was dropped because the session handler thread failed to start."),
    (21, "Session pool exhausted. Connection from <rqst IP addr> was dropped."),
    (22, "Error number <err num> was returned during requester connection attempt."),
    (23, "Absolute timeout expired. This process will now terminate."),
    (
        24,
        "Session handler serial number <ser num> connecting <rqst IP addr> to <trg host> exceeded the idle timeout \
         and has been terminated.",
    ),
    (
        25,
        "Session handler serial number <ser num> connecting <rqst IP addr> to <trg host> has been terminated due to \
         an expired target connection attempt.",
    ),
    (
        26,
        "Session handler serial number <ser num> was allocated for request from <rqst IP addr>. Connecting to target \
         <trg host>.",
    ),
    (27, "The target refused the connection attempt for session handler serial number <ser num>."),
    (
        28,
        "Session handler serial number <ser num> made a successful connection to the target. Starting the relay \
         threads.",
    ),
    (29, "Session handler serial number <ser num> could not start the requester relay thread."),
    (30, "Session handler serial number <ser num> could not start the target relay thread."),
    (31, "Session handler serial number <ser num> successfully started both relay threads."),
    (32, "Session handler serial number <ser num> failed to allocate a requester transfer buffer."),
    (33, "Session handler serial number <ser num> requester-to-target channel is now active."),
    (34, "Session handler serial number <ser num> terminated due to requester read closure."),
    (35, "Session handler serial number <ser num> terminated due to target write closure."),
    (36, "Session handler serial number <ser num> failed to allocate a target transfer buffer."),
    (37, "Session handler serial number <ser num> target-to-requester channel is now active."),
    (38, "Session handler serial number <ser num> terminated due to target read closure."),
    (39, "Session handler serial number <ser num> terminated due to requester write closure."),
];

/// The last line of a relay that was asked to stop.
pub const STOPPED: &str = "Stop signal received. This process will now terminate.";

/// Returns message `number` of session `serial`, for a requester and a target at 127.0.0.1.
pub fn message(number: u8, serial: u64) -> String {
    filled(
        number,
        &[("<ser num>", &serial.to_string()), ("<rqst IP addr>", "127.0.0.1"), ("<trg host>", "127.0.0.1")],
    )
}

/// Returns message `number` with these placeholders filled in.
pub fn filled(number: u8, values: &[(&str, &str)]) -> String {
    let (_, text) = TEXTS[usize::from(number) - 1];
    // Messages about the command line name its arguments as the help does, so the placeholders stay.
    if number <= 14 {
        return text.to_owned();
    }
    values.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
}

/// Returns the system's words for an error, and its number, as the log writes them.
pub fn reason(errno: Errno) -> String {
    io::Error::from(errno).to_string().replace("(os error ", "(error number ")
}

/// Returns the line that follows messages 19, 20 and 27, for a requester at 127.0.0.1.
pub fn connection_failed(errno: Errno) -> String {
    format!("The connection from 127.0.0.1 failed: {}.", reason(errno))
}

/// Returns whether `line` is a whole line of the catalogue. Any number matches, and only the address 127.0.0.1.
pub fn is_whole(line: &str) -> bool {
    let shape = shape(line);
    line == STOPPED
        || dropped(line).is_some()
        || TEXTS.iter().any(|(_, text)| {
            let text = text.replace("<rqst IP addr>", "127.0.0.1").replace("<trg host>", "127.0.0.1");
            let numbers = ["<ser num>", "<fwd port>", "<trg port>", "<err num>"];
            let text = numbers.iter().fold(text, |text, name| text.replace(name, "7"));
            shape == self::shape(&text)
        })
}

/// Returns the line with each number replaced by `#`.
fn shape(line: &str) -> String {
    let mut shape = String::new();
    for character in line.replace("127.0.0.1", "<address>").chars() {
        if !character.is_ascii_digit() {
            shape.push(character);
        } else if !shape.ends_with('#') {
            shape.push('#');
        }
    }
    shape
}

/// Returns the number of dropped lines that `line` reports, or None if it is another message.
pub fn dropped(line: &str) -> Option<usize> {
    let text = " log lines were dropped because the log output was not read.";
    line.strip_suffix(text)
        .or_else(|| line.strip_suffix(&text.replace("lines were", "line was")))
        .and_then(|count| count.parse().ok())
}
