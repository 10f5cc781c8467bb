//! Makes the release program smaller, and an idle relay's memory with it.
//!
//! It leaves the unwind tables out, a tenth of the program, and packs the relocations where the loader knows that.
//! A panic aborts (see the release profile), so only a debugger would read the tables. The standard library brings
//! its own, which no compiler option removes; the linker can. `TCPRELAY_UNWIND_TABLES=1` keeps all of them, for
//! backtraces of a core file.
//!
//! It also keeps code together that an idle relay has never run, a quarter of the program: most of it reads debug
//! information for the backtrace of a panic. The kernel maps the pages around each one that is run, so such code
//! would be in memory wherever it lies between other code.

use std::path::Path;
use std::process::Command;
use std::{env, fs, io};

/// The C startup files keep theirs: their code refers to it.
const NO_UNWIND_TABLES: &str = "\
    /DISCARD/ : {
        *(EXCLUDE_FILE(*crtbegin*.o *crtend*.o) .eh_frame)
        *(.eh_frame_hdr .gcc_except_table .gcc_except_table.*)
    }
";

/// Parts of the names of functions that are rarely run, the rarest first. A name that no function has any more does
/// no harm.
const RARE: [&str; 13] = [
    "backtrace_rs",
    "5gimli",
    "9addr2line",
    "11miniz_oxide",
    "14rustc_demangle",
    "clap_builder5error",
    "clap_builder..error",
    "3cli4help",
    "3cli5usage",
    "8tcprelay7resolve",
    "5relay9resolving",
    "6target5names",
    "8tcprelay5relay6status",
];

/// Equal functions are merged, so those of all vectors may have the name of a rare one.
const SHARED: [&str; 2] = ["5alloc7raw_vec", "5alloc3vec*7reserve"];

fn main() -> io::Result<()> {
    println!("cargo:rerun-if-changed=src/build.rs");
    println!("cargo:rerun-if-env-changed=TCPRELAY_UNWIND_TABLES");
    let is = |name, value| env::var(name).is_ok_and(|found| found == value);
    if !is("CARGO_CFG_TARGET_OS", "linux") || !is("PROFILE", "release") {
        return Ok(());
    }
    let tables = if is("TCPRELAY_UNWIND_TABLES", "1") { "" } else { NO_UNWIND_TABLES };
    let named =
        |names: &[&str]| names.iter().map(|name| format!("*(.text.*{name}*)")).collect::<Vec<_>>().join(" ");
    let (shared, rare) = (named(&SHARED), named(&RARE));
    let code = format!("    .text.shared : {{ {shared} }}\n    .text.rare : {{ {rare} }}\n");
    // Behind all that runs at the start; the C startup files of some systems bring no .fini.
    let last = if is("CARGO_CFG_TARGET_ARCH", "riscv64") { ".text" } else { ".fini" };
    let script = Path::new(&env::var("OUT_DIR").unwrap_or_default()).join("layout.ld");
    fs::write(&script, format!("SECTIONS {{\n{tables}{code}}}\nINSERT AFTER {last};\n"))?;
    // In this form, GNU ld, lld and the compilers that call them all take it.
    println!("cargo:rustc-link-arg-bins=-T");
    println!("cargo:rustc-link-arg-bins={}", script.display());
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
