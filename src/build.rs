//! Leaves the unwind tables out of the release program: a tenth of its size, and of an idle relay's memory.
//!
//! A panic aborts (see the release profile), so only a debugger would read the tables. The standard library brings
//! its own, which no compiler option removes; the linker can. `TCPRELAY_UNWIND_TABLES=1` keeps all of them, for
//! backtraces of a core file.

use std::path::Path;
use std::{env, fs, io};

/// The C startup files keep theirs: their code refers to it.
const SCRIPT: &str = "\
SECTIONS {
    /DISCARD/ : {
        *(EXCLUDE_FILE(*crtbegin*.o *crtend*.o) .eh_frame)
        *(.eh_frame_hdr .gcc_except_table .gcc_except_table.*)
    }
}
INSERT AFTER .text;
";

fn main() -> io::Result<()> {
    println!("cargo:rerun-if-changed=src/build.rs");
    println!("cargo:rerun-if-env-changed=TCPRELAY_UNWIND_TABLES");
    let is = |name, value| env::var(name).is_ok_and(|found| found == value);
    let linux = is("CARGO_CFG_TARGET_OS", "linux");
    if linux && is("PROFILE", "release") && !is("TCPRELAY_UNWIND_TABLES", "1") {
        let script = Path::new(&env::var("OUT_DIR").unwrap_or_default()).join("no-unwind-tables.ld");
        fs::write(&script, SCRIPT)?;
        // In this form, GNU ld, lld and the compilers that call them all take it.
        println!("cargo:rustc-link-arg-bins=-T");
        println!("cargo:rustc-link-arg-bins={}", script.display());
    }
    Ok(())
}
