//! The metrics, in the text format of Prometheus.
//!
//! The values of a label come from the program and from its command line, so no requester can add one.

use std::fmt::{Display, Write as _};
use std::time::UNIX_EPOCH;

use crate::pool::totals::Histogram;
use crate::relay::status::view::{Quoted, Thousandths, View};
use crate::sys::status::{cpu_time, descriptor_limit};

/// The metrics written so far.
struct Metrics(String);

/// Returns all metrics.
#[cold]
pub(super) fn write(view: &View<'_>) -> String {
    let mut metrics = Metrics(String::with_capacity(8192));
    relay(&mut metrics, view);
    counts(&mut metrics, view);
    targets(&mut metrics, view);
    lookups(&mut metrics, view);
    process(&mut metrics, view);
    metrics.0
}

/// Name, kind and help of each metric that has one sample and is not in the table of counts.
const SINGLE: [(&str, &str, &str); 5] = [
    ("tcprelay_sessions", "gauge", "Live sessions."),
    ("tcprelay_sessions_limit", "gauge", "Sessions that the pool has slots for."),
    ("tcprelay_draining", "gauge", "Whether the relay ends with its last session, and accepts no more."),
    ("tcprelay_spliced_bytes_total", "counter", "Bytes delivered without entering the process."),
    (
        "tcprelay_log_lines_dropped_total",
        "counter",
        "Lines of the log that were dropped because it was not read.",
    ),
];

fn relay(metrics: &mut Metrics, view: &View<'_>) {
    metrics.family("tcprelay_build_info", "gauge", "The version of the program.");
    metrics.labelled("tcprelay_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    let values = [
        view.pool.slots().len() as u64,
        view.config.sessions() as u64,
        view.is_draining.into(),
        view.pool.bytes_spliced(),
        view.lines_dropped,
    ];
    for ((name, kind, help), value) in SINGLE.iter().zip(&values) {
        metrics.single(name, kind, help, value);
    }
}

fn counts(metrics: &mut Metrics, view: &View<'_>) {
    let counts = &view.pool.counts;
    let mut last = None;
    for (family, value, count) in counts.rows() {
        let name = ["tcprelay_", family.name, "_total"].concat();
        if last != Some(family) {
            metrics.family(&name, "counter", family.help);
            last = Some(family);
        }
        match family.label {
            "" => metrics.sample(&name, &count),
            label => metrics.labelled(&name, &[(label, value)], count),
        }
    }
    metrics.histogram(
        "tcprelay_connect_duration_seconds",
        "Time until the target answered, of the sessions whose target did.",
        &counts.connects,
    );
    metrics.histogram(
        "tcprelay_session_duration_seconds",
        "Time that ended sessions took.",
        &counts.sessions,
    );
}

fn targets(metrics: &mut Metrics, view: &View<'_>) {
    let named = || view.targets.iter().map(|target| (target, target.target.to_string()));
    metrics.family(
        "tcprelay_target_up",
        "gauge",
        "Whether the last connect to one of the target's addresses succeeded, or there was none.",
    );
    for (target, name) in named() {
        metrics.labelled("tcprelay_target_up", &[("target", &name)], u64::from(!target.is_resting()));
    }
    let failed = "tcprelay_target_connects_failed_total";
    metrics.family(failed, "counter", "Connects to the target that failed, by the reason.");
    for (target, name) in named() {
        for (reason, count) in target.named_failures() {
            metrics.labelled(failed, &[("target", &name), ("reason", reason)], count);
        }
    }
}

/// Adds the lookups, if a target is a name.
fn lookups(metrics: &mut Metrics, view: &View<'_>) {
    let Some(counts) = view.lookups else { return };
    let name = "tcprelay_dns_lookups_total";
    metrics.family(name, "counter", "Lookups of the targets' names, by their result.");
    for (result, count) in ["found", "failed"].into_iter().zip(counts) {
        metrics.labelled(name, &[("result", result)], count);
    }
}

/// Name and help of each metric whose value the system may not report.
const PROCESS: [(&str, &str); 3] = [
    ("process_open_fds", "Open descriptors."),
    ("process_max_fds", "Descriptors that may be open."),
    ("process_resident_memory_bytes", "Resident memory in bytes."),
];

/// Adds the metrics that Prometheus defines for every process, as far as the system reports their values.
fn process(metrics: &mut Metrics, view: &View<'_>) {
    let process = &view.facts.process;
    let started = view.facts.started.duration_since(UNIX_EPOCH).unwrap_or_default();
    metrics.single(
        "process_start_time_seconds",
        "gauge",
        "Start of the relay since the epoch in seconds.",
        &Thousandths::of(started),
    );
    metrics.single(
        "process_cpu_seconds_total",
        "counter",
        "Processor time used, in seconds.",
        &Thousandths::of(cpu_time()),
    );
    let values = [process.open_descriptors(), descriptor_limit(), process.resident_bytes()];
    for ((name, help), value) in PROCESS.iter().zip(&values) {
        if let Some(value) = value {
            metrics.single(name, "gauge", help, value);
        }
    }
}

impl Metrics {
    #[inline(never)]
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    /// Adds a metric that is one sample.
    #[inline(never)]
    fn single(&mut self, name: &str, kind: &str, help: &str, value: &dyn Display) {
        self.family(name, kind, help);
        self.sample(name, value);
    }

    #[inline(never)]
    fn sample(&mut self, name: &str, value: &dyn Display) {
        let _ = writeln!(self.0, "{name} {value}");
    }

    #[inline(never)]
    fn labelled(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        self.0.push_str(name);
        for (index, (label, value)) in labels.iter().enumerate() {
            let before = if index == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{before}{label}={}", Quoted(value));
        }
        let _ = writeln!(self.0, "}} {value}");
    }

    #[inline(never)]
    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.family(name, "histogram", help);
        let bucket = [name, "_bucket"].concat();
        let mut all = 0;
        for (bound, count) in histogram.rows() {
            let bound = bound.map_or("+Inf".into(), |bound| Thousandths(bound).to_string());
            self.labelled(&bucket, &[("le", &bound)], count);
            all = count;
        }
        let _ = writeln!(self.0, "{name}_sum {}\n{name}_count {all}", Thousandths::of(histogram.sum()));
    }
}
