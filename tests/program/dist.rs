//! What a package ships beside the program: `cargo test` builds the example that writes it, and this runs it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tcprelay::cli;

/// The example, where this run of cargo has built it: `cargo test --test dist` alone does not.
fn example() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_BIN_EXE_tcprelay")).with_file_name("examples").join("dist");
    if !path.exists() {
        eprintln!("skipped: {} was not built", path.display());
    }
    path.exists().then_some(path)
}

fn run(example: &Path, arguments: &[&Path]) -> Output {
    Command::new(example).args(arguments).output().unwrap()
}

#[test]
fn the_page_and_the_completions_name_every_option() {
    let Some(example) = example() else { return };
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("dist.{}", std::process::id()));
    assert!(run(&example, &[&folder]).status.success());
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    let page = read("tcprelay.1");
    let shells = ["tcprelay.bash", "_tcprelay", "tcprelay.fish"].map(read);
    fs::remove_dir_all(&folder).unwrap();
    for heading in [".SH NAME", ".SH SYNOPSIS", ".SH OPTIONS", ".SH \"EXAMPLE\"", ".SH \"EXIT STATUS\""] {
        assert!(page.lines().any(|line| line == heading), "no {heading} in\n{page}");
    }
    for option in cli::command().get_arguments().filter_map(|argument| argument.get_long()) {
        let escaped = option.replace('-', "\\-");
        assert!(page.contains(&format!("\\-\\-{escaped}")), "no --{option} in\n{page}");
        assert!(shells.iter().all(|shell| shell.contains(option)), "no --{option}");
    }
    // A choice is offered, and a place for a number or an address is not filled with names of files.
    assert!(shells[0].contains("v1 v2"), "{}", shells[0]);
}

#[test]
fn without_one_folder_that_can_be_written_it_says_so() {
    let Some(example) = example() else { return };
    for arguments in [&[][..], &[Path::new("a"), Path::new("b")]] {
        let output = run(&example, arguments);
        assert_eq!(output.status.code(), Some(1));
        assert!(output.stderr.starts_with(b"Usage: dist "), "{output:?}");
    }
    let output = run(&example, &[Path::new("/dev/null/dist")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stderr.starts_with(b"/dev/null/dist: "), "{output:?}");
}
