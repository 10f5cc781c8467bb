//! Sources as text: the code without comments and tests, and the words, functions and imports in it.

use std::fs;
use std::path::Path;

/// A source file, by its path from the root of the project.
pub struct Source {
    pub path: String,
    pub text: String,
    /// The text without comments and quoted literals.
    pub code: String,
    /// The code without tests.
    pub shipped: String,
}

impl Source {
    pub fn new(path: &str, text: String) -> Self {
        let code = without_comments(&text);
        let is_test = path.starts_with("src/") && (path.ends_with("/tests.rs") || path.contains("/tests/"));
        let shipped = if is_test { String::new() } else { without_tests(&code) };
        Self { path: path.into(), text, code, shipped }
    }
}

pub fn read_all() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    let mut folders = ["src", "tests", "fuzz/fuzz_targets"].map(|folder| root.join(folder)).to_vec();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap();
                sources.push(Source::new(name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    sources.sort_by(|one, other| one.path.cmp(&other.path));
    sources
}

/// Removes comments and quoted literals. Line breaks stay, so that functions keep their number of lines.
fn without_comments(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let skipped = skip(rest);
        if skipped > 0 {
            code.extend(rest[..skipped].chars().filter(|skipped| *skipped == '\n'));
            // Keeps the words on both sides apart.
            code.push(' ');
            rest = &rest[skipped..];
        } else {
            // Takes a word as a whole, so that an r at its end does not look like the start of a raw string.
            let word = rest.find(|next| !is_of_word(next)).unwrap_or(rest.len());
            let taken = word.max(next.len_utf8());
            code.push_str(&rest[..taken]);
            rest = &rest[taken..];
        }
    }
    code
}

/// Returns the length of the comment or quoted literal that `rest` begins with, in bytes, or 0 if there is none.
fn skip(rest: &str) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return block_comment(rest);
    }
    let quoted = rest.trim_start_matches(['b', 'c']);
    if let Some(raw) = quoted.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let begin = rest.len() - raw.len() + hashes + 1;
            return rest[begin..].find(&end).map_or(rest.len(), |at| begin + at + end.len());
        }
    }
    let begin = rest.len() - quoted.len();
    let quote = quoted.chars().next().filter(|quote| ['"', '\''].contains(quote));
    let Some(quote) = quote else { return 0 };
    // 'a is a lifetime, and 'a' is a character.
    let mut inside = quoted.char_indices().skip(1);
    let is_lifetime = quote == '\''
        && !quoted[1..].starts_with('\\')
        && quoted.chars().nth(2).is_none_or(|end| end != '\'');
    if is_lifetime {
        return 0;
    }
    while let Some((at, character)) = inside.next() {
        if character == '\\' {
            inside.next();
        } else if character == quote {
            return begin + at + 1;
        }
    }
    rest.len()
}

/// Returns the length of the block comment that `rest` begins with, in bytes. Block comments nest.
fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        let (opens, closes) =
            (rest.as_bytes()[at..].starts_with(b"/*"), rest.as_bytes()[at..].starts_with(b"*/"));
        depth += i32::from(opens) - i32::from(closes);
        at += if opens || closes { 2 } else { 1 };
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

/// Removes the items that only a test build has.
fn without_tests(code: &str) -> String {
    let mut shipped = String::new();
    let mut rest = code;
    while let Some((before, after)) = rest.split_once("#[cfg(test)]") {
        shipped.push_str(before);
        let end = after.find(['{', ';']).unwrap_or(after.len());
        let end = if after[end..].starts_with('{') { end + block(&after[end..]) } else { end };
        rest = &after[end..];
    }
    shipped + rest
}

/// Returns the length of the block that `code` begins with, in bytes, both braces included.
fn block(code: &str) -> usize {
    let mut depth = 0;
    for (at, character) in code.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    code.len()
}

/// Returns the functions that have a body, and the number of lines of each.
pub fn functions(code: &str) -> Vec<(&str, usize)> {
    let mut functions = Vec::new();
    for at in positions(code, "fn") {
        let head = &code[at..];
        let name = head["fn".len()..].trim_start();
        let name = &name[..name.find(|next| !is_of_word(next)).unwrap_or(name.len())];
        let mut depth = 0;
        let end = head.find(|next| {
            depth += i32::from(['(', '['].contains(&next)) - i32::from([')', ']'].contains(&next));
            depth == 0 && ['{', ';'].contains(&next)
        });
        // A type such as fn(u8) has no name, and a required method has no body.
        let Some(end) = end.filter(|end| head[*end..].starts_with('{') && !name.is_empty()) else { continue };
        let lines = head[..end + block(&head[end..])].lines().count();
        functions.push((name, lines));
    }
    functions
}

/// Returns the paths from the crate's root that this source uses, with two names at most: the folder, and the item
/// in it. They begin with `crate`, or with enough `super` to reach the root. `*` gives an empty name.
pub fn imports(source: &Source) -> Vec<String> {
    let code = &source.shipped;
    let mut paths = Vec::new();
    for word in ["crate::", "super::"] {
        let starts = positions(code, word.trim_end_matches(':')).into_iter();
        starts.filter(|at| code[*at..].starts_with(word)).for_each(|at| grow(&code[at..], "", &mut paths));
    }
    let depth = depth(&source.path);
    paths.iter().filter_map(|path| from_root(path, depth)).collect()
}

/// Returns the names of a path after the crate's root, two at most; `None`: the path does not reach the root.
fn from_root(path: &str, depth: usize) -> Option<String> {
    let names: Vec<_> = path.split("::").collect();
    let (up, reaches) = match names.iter().take_while(|name| **name == "super").count() {
        0 => (1, true),
        up => (up, up >= depth),
    };
    reaches.then(|| names[up..].iter().take(2).copied().collect::<Vec<_>>().join("::"))
}

/// Returns how many `super` lead from a source's module to the crate's root. An inline module counts as its file.
fn depth(path: &str) -> usize {
    let roots = ["lib.rs", "main.rs", "mod.rs"];
    path.split('/').skip(1).filter(|name| !roots.contains(name)).count()
}

/// Collects the whole paths of one tree of a `use`.
fn grow(tree: &str, before: &str, paths: &mut Vec<String>) {
    let tree = tree.trim_start();
    if tree.starts_with('{') {
        let inner = &tree[1..block(tree) - 1];
        let mut depth = 0;
        let branches = inner.split(|next| {
            depth += i32::from(next == '{') - i32::from(next == '}');
            depth == 0 && next == ','
        });
        branches.filter(|branch| !branch.trim().is_empty()).for_each(|branch| grow(branch, before, paths));
        return;
    }
    let name = &tree[..tree.find(|next| !is_of_word(next)).unwrap_or(tree.len())];
    match tree[name.len()..].strip_prefix("::") {
        Some(rest) => grow(rest, &format!("{before}{name}::"), paths),
        None => paths.push(format!("{before}{name}")),
    }
}

pub fn is_of_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// Returns the positions of `word` as a whole word.
pub fn positions(code: &str, word: &str) -> Vec<usize> {
    let is_free =
        |at: usize| !code[..at].ends_with(is_of_word) && !code[at + word.len()..].starts_with(is_of_word);
    code.match_indices(word).map(|(at, _)| at).filter(|at| is_free(*at)).collect()
}
