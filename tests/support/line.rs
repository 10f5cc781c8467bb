//! A valid command line, for a relay that need not serve a session.

/// The arguments. If a test runs them by mistake, the absolute timeout ends the relay after 1 s.
const RIGHT: [&str; 8] = ["8080", "192.0.2.7", "80", "ANY", "1", "30", "1", "4000"];

/// Returns the valid arguments with these options before them.
pub fn with<'a>(options: &[&'a str]) -> Vec<&'a str> {
    [options, &RIGHT].concat()
}

/// Returns the same with this forwarding port.
pub fn on(port: u16, options: &[&str]) -> Vec<String> {
    let mut arguments: Vec<_> = with(options).into_iter().map(str::to_owned).collect();
    arguments[options.len()] = port.to_string();
    arguments
}
