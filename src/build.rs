//! Makes the release program smaller, and an idle relay's memory with it.
//!
//! It leaves out the unwind tables, a tenth of the program, and packs the relocations if the loader supports that.
//! A panic aborts (see the release profile), so only a debugger would read the tables. The standard library brings
//! its own, which no compiler option removes; the linker can. `TCPRELAY_UNWIND_TABLES=1` keeps all of them, for
//! backtraces of a core file.
//!
//! It also groups the code that an idle relay has never run, a quarter of the program. Most of it reads debug
//! information for the backtrace of a panic. On a fault, the kernel maps the surrounding pages as well, so rare code
//! that lay between other code would be in memory too.

use std::path::Path;
use std::process::Command;
use std::{env, fs, io};

/// The C startup files keep their tables, because their code refers to them.
const NO_UNWIND_TABLES: &str = "\
    /DISCARD/ : {
        *(EXCLUDE_FILE(*crtbegin*.o *crtend*.o) .eh_frame)
        *(.eh_frame_hdr .gcc_except_table .gcc_except_table.*)
    }
";

/// Parts of the symbol names of functions that rarely run, the rarest first. A part that no symbol has any more does
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

/// Identical functions are merged, so code that all vectors share may bear the name of a rare function.
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
    // After all code that runs at the start. On riscv64, the C startup files bring no .fini.
    let last = if is("CARGO_CFG_TARGET_ARCH", "riscv64") { ".text" } else { ".fini" };
    let script = Path::new(&env::var("OUT_DIR").unwrap_or_default()).join("layout.ld");
    fs::write(&script, format!("SECTIONS {{\n{tables}{code}}}\nINSERT AFTER {last};\n"))?;
    // GNU ld, lld and the compilers that call them all accept this form.
    println!("cargo:rustc-link-arg-bins=-T");
    println!("cargo:rustc-link-arg-bins={}", script.display());
    if loader_knows_packed_relocations() {
        println!("cargo:rustc-link-arg-bins=-zpack-relative-relocs");
    }
    Ok(())
}

/// Returns whether the loader supports packed relocations, which save 20 KB. glibc does from 2.36 on. The version of
/// another machine's glibc is unknown, and the musl that comes with the lowest Rust version is too old.
fn loader_knows_packed_relocations() -> bool {
    let version = || {
        let output = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        let (major, minor) = text.trim().strip_prefix("glibc ")?.split_once('.')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    };
    env::var("HOST") == env::var("TARGET") && version().is_some_and(|version: (u32, u32)| version >= (2, 36))
}
