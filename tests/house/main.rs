//! The rules of the house, as data: which folder may know what, and how large its parts may be.
//!
//! A rule reads the sources as text, without comments, strings and (except for sizes) tests.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, unreachable_pub)]

mod planted;
mod source;

use std::collections::{BTreeMap, BTreeSet};

use source::{Source, functions, imports, is_of_word, positions, read_all};

/// Lines of the longest function and of the longest file.
const FUNCTION_LINES: usize = 60;
const FILE_LINES: usize = 400;

/// A rule about words: each may stand only in sources whose path begins with one of these.
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
    // Features are cut at the doors of rooms.
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
    // Time is an argument.
    Only { words: &["Instant::now"], places: &["src/relay/mod.rs", "src/log/mod.rs"] },
    Only { words: &["SystemTime::now"], places: &["src/relay/mod.rs", "src/log/mod.rs"] },
    // A path to another folder begins at the crate, where the rules below see it.
    Only { words: &["super::super"], places: &[] },
];

/// A rule about floors: no source of the folder imports from these, but for what is excepted.
struct Never {
    folder: &'static str,
    imports: &'static [&'static str],
    except: &'static [&'static str],
}

const NEVER: &[Never] = &[
    Never { folder: "src/session/", imports: &["pool", "relay", "log"], except: &[] },
    Never { folder: "src/pool/", imports: &["relay", "log"], except: &[] },
    Never {
        folder: "src/resolve/",
        imports: &["cli", "config", "log", "pool", "relay", "session", "sys"],
        except: &[],
    },
];

/// Numbers that are no limits: exit statuses, what stands for no key, the geometry of the wheel, the layout of the
/// tokens, what a kernel or a standard has laid down.
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

/// A rule that is broken, where, and how.
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
    assert!(sources.len() > 50, "these are not all sources");
    let findings = judge(&sources);
    assert!(findings.is_empty(), "these break a rule: {findings:#?}");
}

// ----- the rules

fn judge(sources: &[Source]) -> Vec<Finding> {
    let shipped: Vec<_> = sources.iter().filter(|source| source.path.starts_with("src/")).collect();
    let mut findings: Vec<_> = sources.iter().flat_map(sizes).collect();
    for source in &shipped {
        findings.extend(words(source));
        findings.extend(floors(source));
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

fn floors(source: &Source) -> Vec<Finding> {
    let imports = imports(&source.shipped);
    let mut findings = Vec::new();
    for rule in NEVER.iter().filter(|rule| source.path.starts_with(rule.folder)) {
        for path in &imports {
            let folder = path.split("::").next().unwrap();
            if rule.imports.contains(&folder) && !rule.except.contains(&path.as_str()) {
                findings.push(finding(format!("{} stands alone", rule.folder), &source.path, path));
            }
        }
    }
    findings
}

/// `const NAME: <number or time> =`.
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

/// Folders that import each other, directly or through others; each circle has the names of all in it.
fn circles(sources: &[&Source]) -> Vec<Finding> {
    let mut reached: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources {
        // The roof stands on everything.
        let folder = source.path["src/".len()..].split(['/', '.']).next().unwrap();
        if ["lib", "main", "dist"].contains(&folder) {
            continue;
        }
        let imports =
            imports(&source.shipped).into_iter().map(|path| path.split("::").next().unwrap().into());
        reached.entry(folder.into()).or_default().extend(imports.filter(|import: &String| import != folder));
    }
    // What is imported through others, as long as there is more of it.
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
