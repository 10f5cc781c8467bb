//! The files that a package ships beside the program. `cargo test` builds the example that writes them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tcprelay::cli;

use crate::support::Folder;
use crate::support::skip::skipped;

/// Returns the path of the example. Returns None, and prints the path, if cargo did not build it. Cargo
/// builds it for `cargo test`, but not for `cargo test --test program`.
fn example() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_BIN_EXE_tcprelay")).with_file_name("examples").join("dist");
    if !path.exists() {
        skipped(format_args!("{} was not built", path.display()));
    }
    path.exists().then_some(path)
}

/// The folder of files that the example wrote.
struct Written(Folder);

impl Written {
    /// Runs the example. Returns None if cargo did not build it.
    fn new() -> Option<Self> {
        let folder = Folder::new();
        let mut dist = Command::new(example()?);
        // Midnight of 1970-01-02, which must become the page's date.
        let status = dist.arg(folder.path()).env("SOURCE_DATE_EPOCH", "86400").status().unwrap();
        assert!(status.success());
        Some(Self(folder))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }
}

/// Runs a tool and returns its output. Returns None, and prints the reason, if it cannot be run.
fn output(command: &mut Command) -> Option<Output> {
    match command.output() {
        Ok(output) => Some(output),
        Err(error) => {
            skipped(format_args!("{}: {error}", command.get_program().to_string_lossy()));
            None
        }
    }
}

fn run(example: &Path, arguments: &[&Path]) -> Output {
    Command::new(example).args(arguments).output().unwrap()
}

#[test]
fn the_page_and_the_completions_name_every_option() {
    let Some(written) = Written::new() else { return };
    let page = written.read("tcprelay.1");
    let shells = ["tcprelay.bash", "_tcprelay", "tcprelay.fish"].map(|name| written.read(name));
    for option in cli::command().get_arguments().filter_map(|argument| argument.get_long()) {
        let long = format!("--{option}");
        assert!(has_word(&page.replace("\\-", "-"), &long), "no {long} in\n{page}");
        for (shell, word) in shells.iter().zip([&long, &long, &format!("-l {option}")]) {
            assert!(has_word(shell, word), "no {word} in\n{shell}");
        }
    }
}

/// Returns whether the text has this word, and not only a longer one that begins with it.
fn has_word(text: &str, word: &str) -> bool {
    let goes_on = |rest: &str| rest.starts_with(|next: char| next.is_ascii_alphanumeric() || next == '-');
    text.match_indices(word).any(|(at, _)| !goes_on(&text[at + word.len()..]))
}

#[test]
fn the_page_has_its_sections_its_date_and_the_messages_1_to_39() {
    let Some(written) = Written::new() else { return };
    let page = written.read("tcprelay.1");
    assert!(page.starts_with(".TH TCPRELAY 1 1970-01-02 \"tcprelay "), "{page}");
    let headings: Vec<_> = page.lines().filter_map(|line| line.strip_prefix(".SH ")).collect();
    for heading in
        ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "FILES", "SYSTEMD", "MESSAGES", "EXAMPLES", "BUGS"]
    {
        assert_eq!(
            headings.iter().filter(|found| **found == heading).count(),
            1,
            "{heading} in {headings:?}"
        );
    }
    assert!(headings.contains(&"\"EXIT STATUS\""), "{headings:?}");
    assert!(!page.lines().any(|line| line.starts_with('@')), "a placeholder was not filled in\n{page}");
    for number in 1..40 {
        assert!(page.lines().any(|line| line.starts_with(&format!("{number} \\fB"))), "no message {number}");
    }
}

#[test]
fn man_shows_the_page_without_a_warning() {
    let Some(written) = Written::new() else { return };
    let mut man = Command::new("man");
    man.args(["--warnings", "--local-file"]).arg(written.path("tcprelay.1")).env("LC_ALL", "C.UTF-8");
    let Some(shown) = output(&mut man) else { return };
    if shown.stdout.is_empty() {
        // Debian's minimal images have a stub in place of man.
        skipped("man shows no page here");
        return;
    }
    assert!(shown.status.success() && shown.stderr.is_empty(), "{}", String::from_utf8_lossy(&shown.stderr));
}

#[test]
fn bash_completes_values_and_no_file_names() {
    let Some(written) = Written::new() else { return };
    // The words are split as bash splits them. The one at the cursor is the last.
    let complete = |words: &str| {
        let script = format!(
            "cd / && source {} && COMP_WORDS=({words}) && COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
             _tcprelay tcprelay \"${{COMP_WORDS[COMP_CWORD]#=}}\" \"${{COMP_WORDS[COMP_CWORD-1]}}\"
             echo \"${{COMPREPLY[@]}}\"; complete -p tcprelay",
            written.path("tcprelay.bash").display()
        );
        let output = output(Command::new("bash").args(["--norc", "-c", &script]))?;
        Some(String::from_utf8(output.stdout).unwrap())
    };
    for (words, offered) in [
        ("tcprelay --proxy-protocol ''", "v1 v2"),
        ("tcprelay --proxy-protocol =", "v1 v2"),
        ("tcprelay --log-format = j", "json"),
        ("tcprelay --proxy", "--proxy-protocol"),
        ("tcprelay bi", ""),
    ] {
        let Some(reply) = complete(words) else { return };
        let (first, options) = reply.split_once('\n').unwrap();
        assert_eq!(first, offered, "{words}");
        assert!(options.contains("-F _tcprelay") && !options.contains("default"), "{options}");
    }
}

#[test]
fn fish_and_zsh_complete_values_and_no_file_names() {
    let Some(written) = Written::new() else { return };
    let fish = written.path("tcprelay.fish");
    let complete = |line: &str| {
        let script = format!("cd /; source {}; complete -C '{line}'", fish.display());
        let output = output(Command::new("fish").args(["--no-config", "-c", &script]))?;
        Some(String::from_utf8(output.stdout).unwrap())
    };
    for (line, offered) in [
        ("tcprelay --proxy-protocol=", "--proxy-protocol=v1 --proxy-protocol=v2"),
        ("tcprelay --log-format ", "json text"),
        ("tcprelay bi", ""),
    ] {
        let Some(reply) = complete(line) else { break };
        assert_eq!(reply.split_whitespace().collect::<Vec<_>>().join(" "), offered, "{line}");
    }
    // Zsh has no command that completes a line, so this checks the script. An action such as `_files`
    // in it would complete file names.
    let zsh = written.read("_tcprelay");
    assert!(zsh.contains(":v1|v2:(v1 v2)'") && !zsh.contains("_files") && !zsh.contains("_default"), "{zsh}");
}

#[test]
fn the_example_takes_exactly_one_folder_and_reports_one_that_it_cannot_write() {
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

#[test]
fn every_package_has_the_version_of_the_program() {
    let version = env!("CARGO_PKG_VERSION");
    for (path, line) in [
        ("changelog", format!("tcprelay ({version}-1) unstable; urgency=medium")),
        ("openwrt/Makefile", format!("PKG_VERSION:={version}")),
        ("openrc/APKBUILD", format!("pkgver={version}")),
    ] {
        let text =
            fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/dist").join(path)).unwrap();
        assert!(text.lines().any(|found| found == line), "no {line:?} in {path}");
    }
}
