//! Makes the release program smaller, and an idle relay's memory with it.
//!
//! It leaves the unwind tables out, a tenth of the program, and packs the relocations where the loader knows that.
//! A panic aborts (see the release profile), so only a debugger would read the tables. The standard library brings
//! its own, which no compiler option removes; the linker can. `TCPRELAY_UNWIND_TABLES=1` keeps all of them, for
//! backtraces of a core file.

use std::path::Path;
use std::process::Command;
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
    if !is("CARGO_CFG_TARGET_OS", "linux") || !is("PROFILE", "release") {
        return Ok(());
    }
    if !is("TCPRELAY_UNWIND_TABLES", "1") {
        let script = Path::new(&env::var("OUT_DIR").unwrap_or_default()).join("no-unwind-tables.ld");
        fs::write(&script, SCRIPT)?;
        // In this form, GNU ld, lld and the compilers that call them all take it.
        println!("cargo:rustc-link-arg-bins=-T");
        println!("cargo:rustc-link-arg-bins={}", script.display());
    }
    if loader_knows_packed_relocations() {
        println!("cargo:rustc-link-arg-bins=-zpack-relative-relocs");
    }
    Ok(())
}

/// Returns whether the program may have its relocations packed, which saves 20 KB: glibc's loader knows them from
/// 2.36 on. Of a glibc on another machine nothing is known, and musl learned it after the lowest Rust was made.
fn loader_knows_packed_relocations() -> bool {
    let version = || {
        let output = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        let (major, minor) = text.trim().strip_prefix("glibc ")?.split_once('.')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    };
    env::var("HOST") == env::var("TARGET") && version().is_some_and(|version: (u32, u32)| version >= (2, 36))
}
