//! The shell completions: clap's, with values after `=` in bash, and never the names of files.

use std::io;

use clap::{Arg, ValueHint};
use clap_complete::Shell;
use tcprelay::cli;

/// Returns each shell's script, with the name of its file.
pub(crate) fn scripts() -> io::Result<[(&'static str, String); 3]> {
    Ok([
        ("tcprelay.bash", bash(&generate(Shell::Bash)?)?),
        ("_tcprelay", generate(Shell::Zsh)?),
        // No argument is the name of a file.
        ("tcprelay.fish", format!("complete -c tcprelay -f\n{}", generate(Shell::Fish)?)),
    ])
}

fn generate(shell: Shell) -> io::Result<String> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut cli::command().mut_args(with_values), "tcprelay", &mut script);
    String::from_utf8(script).map_err(io::Error::other)
}

/// Gives an argument the values that a shell offers for it: `v1` and `v2` for `<v1|v2>`.
fn with_values(argument: Arg) -> Arg {
    if !argument.get_action().takes_values() {
        return argument;
    }
    let name = argument.get_value_names().and_then(|names| names.first()).map(ToString::to_string);
    // clap keeps only text that lives as long as the program.
    let choices: Vec<&'static str> = name.unwrap_or_default().leak().split('|').collect();
    if choices.len() > 1 {
        return argument.value_parser(choices);
    }
    argument.value_hint(ValueHint::Other)
}

/// Completes `--option=value` in bash, which splits it into three words, and turns off the names of files.
fn bash(script: &str) -> io::Result<String> {
    let script = replace(script, PREVIOUS_WORD, AFTER_EQUALS)?;
    replace(&script, " -o bashdefault -o default", "")
}

const PREVIOUS_WORD: &str = "    prev=\"$3\"\n";

const AFTER_EQUALS: &str = "    prev=\"$3\"
    if [[ \"${COMP_WORDS[COMP_CWORD]}\" == \"=\" ]]; then
        cur=\"\"
    elif [[ \"${prev}\" == \"=\" ]]; then
        prev=\"${COMP_WORDS[COMP_CWORD-2]}\"
    fi
";

/// Replaces every `from`. Another release of the generator may write it otherwise: that is an error.
fn replace(script: &str, from: &str, to: &str) -> io::Result<String> {
    if script.contains(from) {
        Ok(script.replace(from, to))
    } else {
        Err(io::Error::other(format!("the script for bash has no {from:?}")))
    }
}
