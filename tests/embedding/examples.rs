//! Runs the examples of `tests/examples`. `cargo test` builds them; `cargo test --test embedding` alone does not.

use std::path::Path;
use std::process::Command;
use std::{env, fs};

use crate::skip::skipped;

/// Runs an example to its end. Returns its output, or says that it is skipped and returns None if it was not built
/// since its sources changed.
fn output(name: &str) -> Option<String> {
    let program = env::current_exe().unwrap();
    let path = program.parent()?.with_file_name("examples").join(name);
    if !is_up_to_date(&path) {
        skipped(format_args!("{} is not up to date; cargo build --examples", path.display()));
        return None;
    }
    let output = Command::new(path).output().unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "{name}: {}\n{text}", output.status);
    Some(text)
}

/// Returns whether a program is newer than each of its sources, which Cargo lists beside it.
fn is_up_to_date(program: &Path) -> bool {
    let built = |path: &Path| fs::metadata(path).and_then(|data| data.modified()).ok();
    let Ok(list) = fs::read_to_string(program.with_extension("d")) else { return false };
    let (_, sources) = list.split_once(": ").unwrap();
    sources.split_whitespace().all(|source| built(Path::new(source)) <= built(program))
}

#[test]
fn messages_go_to_the_hosts_logger() {
    let Some(text) = output("logging") else { return };
    assert!(text.contains("INFO The relayer is now active. "), "{text}");
    assert!(text.contains("INFO Connection attempt made from 127.0.0.1."), "{text}");
    assert!(text.ends_with("INFO The last session has ended. This process will now terminate.\n"), "{text}");
}

#[test]
fn two_relays_run_in_one_loop_beside_a_timer() {
    let Some(text) = output("host_loop") else { return };
    assert!(text.starts_with("sessions: [1, 1]\n"), "{text}");
    assert!(text.contains("sessions: [1]\n"), "{text}");
}

#[test]
fn a_fixture_drains_mends_and_cuts() {
    let Some(text) = output("flaky") else { return };
    assert_eq!(text, "drained, mended and cut\n");
}

#[test]
fn bytes_are_counted_at_the_end_of_each_session() {
    let Some(text) = output("count_bytes") else { return };
    assert_eq!(text, "1: 5 bytes\n1: 7 bytes\n");
}
