//! What is wrong with a machine, the worst first, each with the way out.

use serde::Serialize;

use super::report::Report;
use crate::runtime::OLDEST_RUNTIME;

/// Below this a small model with its runtime hardly runs.
const LITTLE_MEMORY_BYTES: u64 = 256 << 20;
/// Below this an unpacked runtime library or a small model hardly fits.
const LITTLE_DISK_BYTES: u64 = 256 << 20;
/// As near as this to the kernel's limit a longer run ends in slowing down.
const NEAR_LIMIT_CELSIUS: f64 = 5.0;

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Severity {
    /// Kiln cannot generate.
    Error,
    /// Kiln generates, slower or less than it could.
    Warning,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Problem {
    pub(super) severity: Severity,
    pub(super) what: String,
    pub(super) way_out: String,
}

/// The problems of a report, the worst first.
pub(super) fn of(report: &Report) -> Vec<Problem> {
    let mut found = Vec::new();
    of_software(report, &mut found);
    of_hardware(report, &mut found);
    found.sort_by_key(|problem| problem.severity);
    found
}

fn of_software(report: &Report, found: &mut Vec<Problem>) {
    let mut add = |severity, what: String, way_out: &str| found.push(Problem { severity, what, way_out: way_out.to_owned() });
    if let Some(error) = &report.runtime.error {
        let way_out = format!("lay ONNX Runtime {OLDEST_RUNTIME} or newer beside kiln, or name it with --runtime; see `next`");
        add(Severity::Error, format!("no ONNX Runtime was loaded: {error}"), &way_out);
    } else if !report.providers.iter().any(|provider| provider.runs) {
        let what = "no provider of this ONNX Runtime runs a small network".to_owned();
        add(Severity::Error, what, "take the library that Kiln is tested with; see `next`");
    }
    if let Some((plugin, error)) = report.plugin.as_ref().and_then(|plugin| Some((plugin, plugin.error.as_ref()?))) {
        let what = format!("the plugin {} cannot be used: {error}", plugin.path.display());
        add(Severity::Warning, what, "take the build of it that is for this ONNX Runtime, or leave it: the others run without");
    }
    for provider in &report.providers {
        if let Some(error) = &provider.error {
            let what = format!("provider {} is there and does not run: {error}", provider.name);
            add(Severity::Warning, what, "install what it needs, or leave it: the others run without");
        }
    }
    if !report.models.iter().any(|model| model.error.is_none()) {
        let what = "no model is found by name".to_owned();
        add(Severity::Error, what, "set KILN_MODELS to the folder in which your models lie, or name a folder with --model");
    }
    for model in &report.models {
        if let Some(error) = &model.error {
            add(Severity::Warning, format!("model {} is broken: {error}", model.name), "bring it again; the others run");
        }
    }
}

fn of_hardware(report: &Report, found: &mut Vec<Problem>) {
    let board = &report.board;
    let mut warn = |what: String, way_out: &str| {
        found.push(Problem { severity: Severity::Warning, what, way_out: way_out.to_owned() });
    };
    if let Some(usable) = board.memory.usable_bytes().filter(|usable| *usable < LITTLE_MEMORY_BYTES) {
        warn(format!("only {} MB of memory can be had", usable / 1_000_000), "end other programs, or use --memory low");
    }
    for zone in &board.temperatures {
        if let Some(limit) = zone.slows_at_celsius.filter(|limit| zone.celsius >= limit - NEAR_LIMIT_CELSIUS) {
            let what = format!("{} is at {:.0} °C, and the board slows down from {limit:.0} °C on", zone.name, zone.celsius);
            warn(what, "cool it");
        }
    }
    for complaint in board.power.complaints.iter().flat_map(|complaints| &complaints.value) {
        warn(format!("the firmware says: {complaint}"), "use the supply and the cooling that the board's maker names");
    }
    // On other processors the governor of that name changes the clock with the load.
    let is_slow = board.processor.has("neon");
    if is_slow && board.power.governors.iter().flat_map(|governors| &governors.value).any(|governor| governor == "powersave") {
        let what = "the clock governor is `powersave`, which stays at the lowest clock".to_owned();
        warn(what, "choose `schedutil` or `performance` in /sys/devices/system/cpu/cpufreq");
    }
    if let Some(offline) = board.processor.offline.as_ref().filter(|offline| offline.value > 0) {
        let mode = board.power.mode.as_ref().map_or_else(String::new, |mode| format!(" (power mode {})", mode.value));
        let way_out = "choose a power mode with all cores where the supply allows it";
        warn(format!("{} of the processor's cores are switched off{mode}", offline.value), way_out);
    }
    for device in board.accelerators.iter().filter(|device| !device.may_open) {
        let way_out = "add the user to the group that owns the file (`ls -l` tells: render or video as a rule)";
        warn(format!("{} is there, and this user may not open it", device.device), way_out);
    }
    for disk in &report.disk {
        if let Some(free) = disk.free_bytes.filter(|free| *free < LITTLE_DISK_BYTES) {
            let what = format!("only {} MB are free in {}", free / 1_000_000, disk.folder.display());
            warn(what, "make room: models, caches and pictures go there");
        }
    }
}
