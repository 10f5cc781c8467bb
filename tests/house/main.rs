//! The rules of the house, as data: which folder may use what, and how large functions and files may be.
//!
//! The rules read the sources as text, without comments and strings, and (except for sizes) without tests.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, unreachable_pub)]

mod planted;
mod source;

use std::collections::{BTreeMap, BTreeSet};

use source::{Source, functions, imports, is_of_word, positions, read_all};

/// The most lines that a function may have, and a file.
const FUNCTION_LINES: usize = 60;
const FILE_LINES: usize = 400;

/// A rule about words: each may appear only in sources whose path begins with one of `places`.
struct Only {
    words: &'static [&'static str],
    places: &'static [&'static str],
}

const ONLY: &[Only] = &[
    Only { words: &["clap"], places: &["src/cli/", "src/dist/"] },
    Only { words: &["mio"], places: &["src/relay/", "src/sys/"] },
    Only {
        words: &["rustix"],
        places: &[
            "src/sys/",
            "src/relay/listener.rs",
            "src/relay/needs.rs",
            "src/relay/target/",
            "src/relay/tcp.rs",
        ],
    },
    Only {
        words: &["socket2"],
        places: &[
            "src/sys/",
            "src/relay/listener.rs",
            "src/relay/status/listener.rs",
            "src/relay/status/visit.rs",
            "src/relay/target/",
            "src/relay/tcp.rs",
        ],
    },
    Only { words: &["serde", "serde_json"], places: &["src/log/json.rs"] },
    // Conditional compilation stays in a few files.
    Only {
        words: &["feature"],
        places: &[
            "src/cli/options.rs",
            "src/config/mod.rs",
            "src/lib.rs",
            "src/log/lines.rs",
            "src/log/mod.rs",
            "src/relay/mod.rs",
            "src/sys/mod.rs",
        ],
    },
    Only { words: &["nix"], places: &["src/sys/", "src/relay/target/"] },
    Only { words: &["signal_hook"], places: &["src/relay/signals.rs"] },
    // All other code takes the time as an argument.
    Only { words: &["Instant::now"], places: &["src/relay/mod.rs", "src/log/mod.rs"] },
    Only { words: &["SystemTime::now"], places: &["src/relay/mod.rs", "src/log/mod.rs"] },
];

/// A rule about layers: no source in `folder` imports from `imports`, nor all names of the crate's root.
struct Never {
    folder: &'static str,
    imports: &'static [&'static str],
}

const NEVER: &[Never] = &[
    Never { folder: "src/session/", imports: &["pool", "relay", "log"] },
    Never { folder: "src/pool/", imports: &["relay", "log"] },
    Never { folder: "src/resolve/", imports: &["cli", "config", "log", "pool", "relay", "session", "sys"] },
];

/// Sources that may define numbers: limits.rs, and those whose numbers are no limits. Such numbers are exit statuses,
/// the key that means none, the wheel's geometry, the layout of the tokens, and constants of a kernel or a standard.
const OTHER_NUMBERS: &[&str] = &[
    "src/limits.rs",
    "src/main.rs",
    "src/pool/queues.rs",
    "src/pool/wheel.rs",
    "src/relay/edge.rs",
    "src/resolve/wire.rs",
    "src/sys/",
];

const CIRCLE: &str = "no circle of imports";
const DOCUMENTED: &str = "each module opens with its documentation";
const FILES: &str = "no file over 400 lines";
const FUNCTIONS: &str = "no function over 60 lines";
const NUMBERS: &str = "limits live in limits.rs";

/// A broken rule: which one, where and how.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    rule: String,
    place: String,
    detail: String,
}

fn finding(rule: impl Into<String>, place: &str, detail: impl Into<String>) -> Finding {
    Finding { rule: rule.into(), place: place.into(), detail: detail.into() }
}

#[test]
fn every_rule_holds() {
    let sources = read_all();
    assert!(sources.len() > 50, "some sources are missing");
    let findings = judge(&sources);
    assert!(findings.is_empty(), "these break a rule: {findings:#?}");
}

// ----- the rules

fn judge(sources: &[Source]) -> Vec<Finding> {
    let shipped: Vec<_> = sources.iter().filter(|source| source.path.starts_with("src/")).collect();
    let mut findings: Vec<_> = sources.iter().flat_map(sizes).collect();
    for source in &shipped {
        findings.extend(words(source));
        findings.extend(layers(source));
        findings.extend(numbers(source));
    }
    findings.extend(circles(&shipped));
    findings
}

fn sizes(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !source.text.starts_with("//!") {
        findings.push(finding(DOCUMENTED, &source.path, "it does not"));
    }
    let lines = source.text.lines().count();
    if lines > FILE_LINES {
        findings.push(finding(FILES, &source.path, format!("it has {lines}")));
    }
    for (name, lines) in functions(&source.code) {
        if lines > FUNCTION_LINES {
            findings.push(finding(FUNCTIONS, &source.path, format!("{name} has {lines}")));
        }
    }
    findings
}

fn words(source: &Source) -> Vec<Finding> {
    let strays = ONLY.iter().filter(|rule| !rule.places.iter().any(|place| source.path.starts_with(place)));
    let words = strays.flat_map(|rule| rule.words);
    let found = words.filter(|word| !positions(&source.shipped, word).is_empty());
    found.map(|word| finding(format!("{word} in its places"), &source.path, "it is here")).collect()
}

fn layers(source: &Source) -> Vec<Finding> {
    let imports = imports(source);
    let mut findings = Vec::new();
    for rule in NEVER.iter().filter(|rule| source.path.starts_with(rule.folder)) {
        for path in &imports {
            let folder = path.split("::").next().unwrap();
            if folder.is_empty() || rule.imports.contains(&folder) {
                findings.push(finding(format!("{} stands alone", rule.folder), &source.path, path));
            }
        }
    }
    findings
}

/// Finds `const NAME: <number or time> =`.
fn numbers(source: &Source) -> Vec<Finding> {
    if OTHER_NUMBERS.iter().any(|place| source.path.starts_with(place)) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for at in positions(&source.shipped, "const") {
        let rest = source.shipped[at + "const".len()..].trim_start();
        let Some((name, rest)) = rest.split_once(':') else { continue };
        let Some((kind, _)) = rest.split_once(['=', ';', '(', ',', '{']) else { continue };
        let is_constant = rest[kind.len()..].starts_with('=') && name.chars().all(is_of_word);
        if is_constant && is_numeric(kind.trim()) {
            findings.push(finding(NUMBERS, &source.path, name));
        }
    }
    findings
}

fn is_numeric(kind: &str) -> bool {
    let kind = kind.rsplit("::").next().unwrap();
    let sizes = ["8", "16", "32", "64", "128", "size"];
    kind == "Duration"
        || kind.starts_with("Range")
        || kind.strip_prefix(['u', 'i', 'f']).is_some_and(|size| sizes.contains(&size))
}

/// Finds folders that import each other, directly or through others. A circle is one finding, which names its folders.
fn circles(sources: &[&Source]) -> Vec<Finding> {
    let mut reached: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources {
        // The crate's root, the program and the packaging may import everything.
        let folder = source.path["src/".len()..].split(['/', '.']).next().unwrap();
        if ["lib", "main", "dist"].contains(&folder) {
            continue;
        }
        let imports = imports(source).into_iter().map(|path| path.split("::").next().unwrap().into());
        reached.entry(folder.into()).or_default().extend(imports.filter(|import: &String| import != folder));
    }
    // Adds indirect imports until there are no more.
    loop {
        let before = reached.clone();
        for all in reached.values_mut() {
            let further: Vec<_> = all.iter().filter_map(|folder| before.get(folder)).flatten().collect();
            all.extend(further.into_iter().cloned());
        }
        if before == reached {
            break;
        }
    }
    let back = |folder: &String, other: &&String| reached.get(*other).is_some_and(|all| all.contains(folder));
    let circles: BTreeSet<Vec<_>> = reached
        .iter()
        .filter(|(folder, all)| all.contains(*folder))
        .map(|(folder, all)| all.iter().filter(|other| back(folder, other)).map(String::as_str).collect())
        .collect();
    circles.iter().map(|circle| finding(CIRCLE, &circle.join(" "), "they import each other")).collect()
}
