//! The metrics, in the text format of Prometheus.
//!
//! The values of a label come from the program and from its command line. No requester can add one.

use std::fmt::{Display, Write as _};
use std::time::UNIX_EPOCH;

use crate::pool::totals::Histogram;
use crate::relay::status::view::{Thousandths, View};
use crate::sys::process::{cpu_time, descriptor_limit};

/// The metrics written so far.
struct Metrics(String);

/// Returns all metrics.
pub(super) fn write(view: &View<'_>) -> String {
    let mut metrics = Metrics(String::with_capacity(8192));
    relay(&mut metrics, view);
    counts(&mut metrics, view);
    targets(&mut metrics, view);
    process(&mut metrics, view);
    metrics.0
}

fn relay(metrics: &mut Metrics, view: &View<'_>) {
    metrics.family("tcprelay_build_info", "gauge", "The version of the program.");
    metrics.labelled("tcprelay_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    let pool = view.pool;
    for (name, kind, help, value) in [
        ("tcprelay_sessions", "gauge", "Live sessions.", pool.slots().len() as u64),
        (
            "tcprelay_sessions_limit",
            "gauge",
            "Sessions that the pool has slots for.",
            view.config.sessions() as u64,
        ),
        (
            "tcprelay_draining",
            "gauge",
            "Whether the relay ends with its last session, and accepts no more.",
            view.is_draining.into(),
        ),
        (
            "tcprelay_spliced_bytes_total",
            "counter",
            "Bytes delivered without entering the process.",
            pool.bytes_spliced(),
        ),
        (
            "tcprelay_log_lines_dropped_total",
            "counter",
            "Lines of the log that were dropped because it was not read.",
            view.lines_dropped,
        ),
    ] {
        metrics.single(name, kind, help, value);
    }
}

fn counts(metrics: &mut Metrics, view: &View<'_>) {
    let counts = &view.pool.counts;
    let mut last = None;
    for (family, value, count) in counts.rows() {
        let name = ["tcprelay_", family.name].concat();
        if last != Some(family) {
            metrics.family(&name, "counter", family.help);
            last = Some(family);
        }
        match family.label {
            "" => metrics.sample(&name, count),
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
    let named = || view.targets.iter().map(|target| (target, target.address.to_string()));
    metrics.family(
        "tcprelay_target_up",
        "gauge",
        "Whether the last connect to the target succeeded, or there was none.",
    );
    for (target, name) in named() {
        metrics.labelled("tcprelay_target_up", &[("target", &name)], u64::from(target.is_up));
    }
    let failed = "tcprelay_target_connects_failed_total";
    metrics.family(failed, "counter", "Connects to the target that failed, by the reason.");
    for (target, name) in named() {
        for (reason, count) in target.failures() {
            metrics.labelled(failed, &[("target", &name), ("reason", reason)], count);
        }
    }
}

/// The metrics that Prometheus knows of every process, as far as the system tells them.
fn process(metrics: &mut Metrics, view: &View<'_>) {
    let process = &view.facts.process;
    let started = view.facts.started.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = |time| Thousandths::of(time);
    metrics.single(
        "process_start_time_seconds",
        "gauge",
        "Start of the relay since the epoch in seconds.",
        seconds(started),
    );
    metrics.single(
        "process_cpu_seconds_total",
        "counter",
        "Processor time used, in seconds.",
        seconds(cpu_time()),
    );
    for (name, help, value) in [
        ("process_open_fds", "Open descriptors.", process.open_descriptors()),
        ("process_max_fds", "Descriptors that may be open.", descriptor_limit()),
        ("process_resident_memory_bytes", "Resident memory in bytes.", process.resident_bytes()),
    ] {
        if let Some(value) = value {
            metrics.single(name, "gauge", help, value);
        }
    }
}

impl Metrics {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    /// Adds a metric that is one sample.
    fn single(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, value);
    }

    fn sample(&mut self, name: &str, value: impl Display) {
        let _ = writeln!(self.0, "{name} {value}");
    }

    fn labelled(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        self.0.push_str(name);
        let mut before = '{';
        for (label, value) in labels {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.0, "{before}{label}=\"{value}\"");
            before = ',';
        }
        let _ = writeln!(self.0, "}} {value}");
    }

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
