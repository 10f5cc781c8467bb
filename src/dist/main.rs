//! Writes the files that a package ships beside the program: the man page and the shell completions.
//! Both come from the definition of the command line, so that they cannot contradict it.
//!
//! `cargo run --release --example dist -- <folder>`

mod completions;
mod man;

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(folder), None) = (arguments.next(), arguments.next()) else {
        return fail("Usage: dist <folder for the man page and the completions>");
    };
    match write_all(Path::new(&folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("{}: {error}", folder.display())),
    }
}

fn write_all(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    fs::write(folder.join("tcprelay.1"), man::page()?)?;
    for (name, script) in completions::scripts()? {
        fs::write(folder.join(name), script)?;
    }
    Ok(())
}

fn fail(why: &str) -> ExitCode {
    // The exit status reports the failure even if STDERR cannot be written.
    let _ = writeln!(io::stderr(), "{why}");
    ExitCode::FAILURE
}
