//! Makes the release program smaller, and an idle relay's memory with it.
//!
//! A panic aborts (see the release profile), so nothing unwinds. Still the standard library brings its unwind tables,
//! and the library that would read them; no compiler option changes that. The linker can: it leaves out the tables, a
//! tenth of the program, and lld also does without the library if its functions are defined here. That takes 90 KiB
//! off an idle relay, and 70 KB off a static program. A debugger would read the tables, and a backtrace needs both:
//! `TCPRELAY_UNWIND_TABLES=1` keeps them.
//!
//! The linker also packs the relocations if the loader supports that, and groups the code by when it runs. On a fault,
//! the kernel maps the surrounding pages as well, so rare code that lay between other code would be in memory too.

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

/// The functions of the unwinder, without their prefix. None of them runs, but for a backtrace, which has no frames then.
const UNWINDER: [&str; 14] = [
    "Backtrace",
    "DeleteException",
    "FindEnclosingFunction",
    "GetCFA",
    "GetDataRelBase",
    "GetIP",
    "GetIPInfo",
    "GetLanguageSpecificData",
    "GetRegionStart",
    "GetTextRelBase",
    "RaiseException",
    "Resume",
    "SetGR",
    "SetIP",
];

/// Parts of the symbol names of functions that rarely run: the standard library's, the parser's, ours and those of
/// other crates. A part that no symbol has any more does no harm.
const RARE: &[&str] = &[
    "backtrace_rs",
    "5gimli",
    "9addr2line",
    "11miniz_oxide",
    "14rustc_demangle",
    "9panicking",
    "13BacktraceLock",
    "rust_eh_personality",
    "5Debug3fmt",
    "fmt..Debug",
    "slice_error_fail",
    "core4bstr",
    "core7unicode",
    "str5lossy",
    "3str7pattern",
    "3std4path",
    "11current_exe",
    "14signal_handler",
    "8Ipv6Addr",
    "10subcommand",
    "clap_builder5error",
    "clap_builder..error",
    "3cli4help",
    "3cli5usage",
    "anstyle",
    "builder*5clone17h",
    "8tcprelay7resolve",
    "5relay9resolving",
    "6target5names",
    "8tcprelay5relay6status",
    "relay..status..view",
    "config6status",
    "5relay5error",
    "StatusAddress",
    "Failure4cure",
    "5Errno5words",
    "log6fields",
    "config..Config$GT$3fmt",
    "8Listener7inherit",
    "sys3net",
    "humantime",
    "serde_json",
    "log4json",
];

/// Likewise of functions that only traffic needs.
const TRAFFIC: &[&str] = &[
    "4pool13Pool",
    "4pool5reach",
    "8tcprelay7session",
    "5relay6accept",
    "5relay4edge",
    "6target6choice",
    "6target13begin_connect",
];

/// Identical functions are merged, so code that all vectors share may bear the name of a rare function.
const SHARED: &[&str] = &["5alloc7raw_vec", "5alloc3vec*7reserve"];

fn main() -> io::Result<()> {
    println!("cargo:rerun-if-changed=src/build.rs");
    println!("cargo:rerun-if-env-changed=TCPRELAY_UNWIND_TABLES");
    let is = |name, value| env::var(name).is_ok_and(|found| found == value);
    if !is("CARGO_CFG_TARGET_OS", "linux") || !is("PROFILE", "release") {
        return Ok(());
    }
    let keeps_tables = is("TCPRELAY_UNWIND_TABLES", "1");
    // On riscv64, the C startup files bring no .fini.
    let has_fini = !is("CARGO_CFG_TARGET_ARCH", "riscv64");
    let tables = if keeps_tables { "" } else { NO_UNWIND_TABLES };
    let script = Path::new(&env::var("OUT_DIR").unwrap_or_default()).join("layout.ld");
    // After all code that runs at the start.
    let last = if has_fini { ".fini" } else { ".text" };
    let unwinder = if !keeps_tables && has_fini { unwinder() } else { String::new() };
    fs::write(&script, format!("{unwinder}SECTIONS {{\n{tables}{}}}\nINSERT AFTER {last};\n", code()))?;
    // GNU ld, lld and the compilers that call them all accept this form.
    println!("cargo:rustc-link-arg-bins=-T");
    println!("cargo:rustc-link-arg-bins={}", script.display());
    if loader_knows_packed_relocations() {
        println!("cargo:rustc-link-arg-bins=-zpack-relative-relocs");
    }
    Ok(())
}

/// Returns definitions of the unwinder's functions: the end of the C startup files, which does nothing and returns.
fn unwinder() -> String {
    UNWINDER.map(|name| format!("HIDDEN(_Unwind_{name} = _fini);\n")).concat()
}

/// Returns the output sections of the code that lies behind all other.
fn code() -> String {
    let groups = [("shared", SHARED), ("traffic", TRAFFIC), ("rare", RARE)];
    let named =
        |names: &[&str]| names.iter().map(|name| format!("*(.text.*{name}*)")).collect::<Vec<_>>().join(" ");
    groups.map(|(group, names)| format!("    .text.{group} : {{ {} }}\n", named(names))).concat()
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
