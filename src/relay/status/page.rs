//! The page for people: the totals, a table of the targets and one of the sessions, and no script.

use std::fmt::{self, Display, Write as _};

use crate::relay::status::http::Order;
use crate::relay::status::rates::a_second;
use crate::relay::status::view::{Bytes, Html, Spoken, View};
use crate::session::ended::Live;

/// Everything above the title. The page reloads itself every 5 seconds, in the same order.
const HEAD: &str = "<!doctype html>\n<html lang=en><meta charset=utf-8>\
<meta name=viewport content='width=device-width,initial-scale=1'>\
<meta http-equiv=refresh content=5><meta name=color-scheme content='light dark'><style>
:root{color-scheme:light dark;--line:#8884;--dim:#888;--up:#2a8a3e;--down:#d33}
body{font:15px/1.45 system-ui,sans-serif;margin:1.2em auto;max-width:62em;padding:0 1em}
h1{font-size:1.25em;margin:0}h2{font-size:1em;margin:1.6em 0 .4em}p{margin:.3em 0}small,.dim{color:var(--dim)}
.wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}
.wide table{min-width:100%}
th,td{padding:.25em 1em .25em 0;border-bottom:1px solid var(--line);text-align:left;white-space:nowrap}
th{font-weight:600}.n{text-align:right}a{color:inherit}b.up{color:var(--up)}b.down{color:var(--down)}
dl{display:grid;grid-template-columns:repeat(auto-fill,minmax(10.5em,1fr));gap:.5em 1em;margin:1em 0 0}
dt{color:var(--dim);font-size:.85em}dd{margin:0;font-size:1.15em;font-variant-numeric:tabular-nums}
@media(max-width:40em){th,td{padding-right:.6em}}
@media(prefers-color-scheme:dark){:root{--up:#5c7;--down:#f77}}
</style>";

/// Returns the page with these sessions, which are sorted by `order`.
#[cold]
pub(super) fn write(view: &View<'_>, sessions: &[Live], order: Order) -> String {
    let mut page = String::with_capacity(4096 + 256 * sessions.len());
    page.push_str(HEAD);
    // Writing to memory does not fail.
    let _ = put(&mut page, view, sessions, order);
    page
}

fn put(page: &mut String, view: &View<'_>, sessions: &[Live], order: Order) -> fmt::Result {
    let (port, target) = (view.listen.port(), view.config.target());
    let host = Html(&target.host);
    write!(
        page,
        "<title>tcprelay {port}</title><h1>TCP port {port} \u{2192} {host} port {}</h1>",
        target.port
    )?;
    let since = humantime::format_rfc3339_seconds(view.facts.started);
    write!(page, "<p>Since {since} ({}), listening on {}", Spoken(view.age()), Html(&view.listen))?;
    page.push_str(if view.is_draining {
        ". <b class=down>Draining: no more connections are accepted.</b>"
    } else {
        "."
    });
    put_totals(page, view)?;
    put_targets(page, view)?;
    put_sessions(page, view, sessions, order)?;
    page.push_str("<p><small>tcprelay ");
    page.push_str(env!("CARGO_PKG_VERSION"));
    page.push_str(" \u{b7} <a href=/metrics>metrics</a> \u{b7} <a href=/status.json>JSON</a></small>\n");
    Ok(())
}

fn put_totals(page: &mut String, view: &View<'_>) -> fmt::Result {
    let totals = view.pool.counts.totals();
    let lately = view.facts.rates.lately(view.now, &totals);
    page.push_str("<dl>");
    let (sessions, limit) = (view.pool.slots().len(), view.config.sessions());
    fact(page, "sessions", &format_args!("{sessions} of {limit}"))?;
    for (name, words, count) in totals.rows() {
        if name.starts_with("bytes") {
            fact(page, words, &Bytes(count))?;
        } else {
            fact(page, words, &count)?;
        }
    }
    fact(page, "of these spliced", &Bytes(view.pool.bytes_spliced()))?;
    fact(page, "log lines dropped", &view.lines_dropped)?;
    page.push_str("</dl><h2>In the last minute</h2><dl>");
    fact(page, "accepted", &lately.accepted)?;
    fact(page, "to the target", &format_args!("{}/s", Bytes(a_second(lately.to_target, view.age()))))?;
    fact(page, "to the requester", &format_args!("{}/s", Bytes(a_second(lately.to_requester, view.age()))))?;
    page.push_str("</dl>");
    Ok(())
}

#[inline(never)]
fn fact(page: &mut String, name: &str, value: &dyn Display) -> fmt::Result {
    write!(page, "<div><dt>{name}</dt><dd>{value}</dd></div>")
}

fn put_targets(page: &mut String, view: &View<'_>) -> fmt::Result {
    page.push_str("<h2>Targets</h2><div class=wide><table><tr><th>target<th>state<th>failed connects");
    for target in view.targets {
        write!(page, "<tr><td>{}", Html(&target.target))?;
        // The addresses of a name.
        for state in target.addresses.iter().filter(|state| state.address != target.target) {
            let word = if state.is_resting() { " down" } else { "" };
            write!(page, "<br><small>{}{word}</small>", Html(&state.address))?;
        }
        let state = if target.is_resting() { "down" } else { "up" };
        write!(page, "<td><b class={state}>{state}</b><td>")?;
        let mut separator = "";
        for (reason, count) in target.named_failures().filter(|&(_, count)| count > 0) {
            write!(page, "{separator}{count} {reason}")?;
            separator = ", ";
        }
    }
    page.push_str("</table></div>");
    Ok(())
}

fn put_sessions(page: &mut String, view: &View<'_>, sessions: &[Live], order: Order) -> fmt::Result {
    let (listed, all) = (sessions.len(), view.pool.slots().len());
    write!(page, "<h2>Sessions <span class=dim>{listed} of {all}")?;
    page.push_str("</span></h2><div class=wide><table><tr><th>number<th>requester<th>state");
    let (oldest, bytes, idle) = (order == Order::Oldest, order == Order::Bytes, order == Order::Idle);
    for (name, sort, is_sorted) in [
        ("age", "age", oldest),
        ("idle", "idle", idle),
        ("to target", "bytes", bytes),
        ("to requester", "bytes", bytes),
    ] {
        let mark = if is_sorted { " \u{25be}" } else { "" };
        write!(page, "<th class=n><a href='?sort={sort}'>{name}</a>{mark}")?;
    }
    for live in sessions {
        let (serial, requester) = (live.identity.serial, Html(&live.identity.requester));
        write!(page, "\n<tr><td>{serial}<td>{requester}<td>{}", live.phase)?;
        let summary = &live.summary;
        for time in [summary.duration, live.idle] {
            write!(page, "<td class=n>{}", Spoken(time))?;
        }
        for bytes in [summary.to_target, summary.to_requester] {
            write!(page, "<td class=n>{}", Bytes(bytes))?;
        }
    }
    page.push_str("</table></div>");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_small_and_loads_nothing() {
        assert!(HEAD.len() < 4096);
        for word in ["<script", "<link", "<img", "url(", "@import", "http://", "https://"] {
            assert!(!HEAD.contains(word), "{word}");
        }
    }
}
