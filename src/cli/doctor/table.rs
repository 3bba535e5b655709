//! The report of `kiln doctor` as a person reads it: aligned, within 80 columns, what is wrong first.

use super::problems::Severity;
use super::report::Report;
use crate::cli::inspect::megabytes;
use crate::runtime::{Fact, logical_cores};

/// Columns of the narrowest terminal that is usual.
const COLUMNS: usize = 80;
/// Columns of the names at the left, with the blanks about them.
const LABEL: usize = 14;

pub(super) fn draw(report: &Report) -> String {
    let mut page = Page::default();
    let runs: Vec<&str> =
        report.providers.iter().filter(|provider| provider.runs).map(|provider| provider.name.as_str()).collect();
    let models = report.models.iter().filter(|model| model.error.is_none()).count();
    page.text.push_str(&match report.can_generate {
        true => format!("✓ Kiln {} can generate: on {}, with {models} models\n", report.kiln, runs.join(", ")),
        false => format!("✗ Kiln {} cannot generate here\n", report.kiln),
    });
    for problem in &report.problems {
        let mark = if problem.severity == Severity::Error { "✗" } else { "!" };
        page.text.push('\n');
        page.lines(&format!("{mark} "), "  ", &problem.what);
        page.lines("  → ", "    ", &problem.way_out);
    }
    board(&mut page, report);
    power(&mut page, report);
    software(&mut page, report);
    page.title("next");
    if report.next.is_empty() {
        page.row("", "nothing: what this machine is known to have is used");
    }
    for advice in &report.next {
        page.row("for", &advice.because);
        page.row("install", &advice.install);
        if !advice.providers.is_empty() {
            page.row("brings", &advice.providers.join(", "));
        }
        page.row("tried", advice.tried);
    }
    page.text
}

fn board(page: &mut Page, report: &Report) {
    let board = &report.board;
    page.title("board");
    page.fact("model", board.model.as_ref());
    page.fact("chip", board.soc.as_ref());
    page.fact("JetPack", board.jetpack.as_ref());
    page.fact("L4T", board.l4t.as_ref());
    let processor = &board.processor;
    page.row("processor", &processor.text());
    let mut cores = format!("{} usable", logical_cores());
    if let Some(offline) = processor.offline.as_ref().filter(|offline| offline.value > 0) {
        cores += &format!(", {} switched off", offline.value);
    }
    if let Some(quota) = &processor.quota {
        cores += &format!(", {:.2} cores' time allowed ({})", quota.value, quota.source);
    }
    page.row("cores", &cores);
    if let Some(features) = &processor.features {
        page.row("instructions", &features.value.join(" "));
    }
    let system: Vec<&str> =
        [&board.system, &board.kernel, &board.libc].into_iter().flatten().map(|fact| fact.value.as_str()).collect();
    page.row("system", &system.join(", "));
    if board.accelerators.is_empty() {
        page.row("accelerators", "no device file of one was found");
    }
    for (index, device) in board.accelerators.iter().enumerate() {
        let driver = device.driver.as_ref().map_or_else(String::new, |driver| format!(" ({driver})"));
        let denied = if device.may_open { "" } else { ", not to be opened by this user" };
        page.row(if index == 0 { "accelerators" } else { "" }, &format!("{}{driver}{denied}", device.device));
    }
    for driver in &board.drivers {
        page.row("driver", &format!("{} {}", driver.name, driver.version));
    }

    let memory = &board.memory;
    let pair = |free: Option<&Fact<u64>>, total: Option<&Fact<u64>>| match (free, total) {
        (Some(free), Some(total)) => format!("{} of {}", megabytes(free.value), megabytes(total.value)),
        _ => "not known".to_owned(),
    };
    page.row("memory free", &pair(memory.available_bytes.as_ref(), memory.total_bytes.as_ref()));
    if let Some(limit) = &memory.limit {
        let used = limit.value.used_bytes.map_or_else(String::new, |used| format!(", {} of it used", megabytes(used)));
        page.row("limit", &format!("{}{used} ({})", megabytes(limit.value.limit_bytes), limit.source));
    }
    match memory.swap_total_bytes.as_ref().map(|total| total.value) {
        Some(0) => page.row("swap free", "there is none"),
        _ => page.row("swap free", &pair(memory.swap_free_bytes.as_ref(), memory.swap_total_bytes.as_ref())),
    }
}

fn power(page: &mut Page, report: &Report) {
    let board = &report.board;
    if !board.temperatures.is_empty() {
        let zone = |zone: &crate::runtime::Temperature| format!("{} {:.0} °C", zone.name, zone.celsius);
        page.row("heat", &board.temperatures.iter().map(zone).collect::<Vec<_>>().join(", "));
    }
    page.fact("power mode", board.power.mode.as_ref());
    if let Some(governors) = &board.power.governors {
        page.row("governor", &governors.value.join(", "));
    }
}

fn software(page: &mut Page, report: &Report) {
    page.title("ONNX Runtime");
    let runtime = &report.runtime;
    page.row("version", runtime.version.as_deref().unwrap_or("none was loaded"));
    if let Some(path) = &runtime.path {
        page.row("file", &path.display().to_string());
    }
    if let Some(plugin) = &report.plugin {
        let outcome = if plugin.error.is_some() { "cannot be used, see above" } else { "loaded" };
        page.row("plugin", &format!("{}: {outcome}", plugin.path.display()));
    }
    for (index, place) in runtime.passed_over.iter().enumerate() {
        page.row(if index == 0 { "passed over" } else { "" }, &format!("{}: {}", place.path.display(), place.because));
    }
    for (index, provider) in report.providers.iter().enumerate() {
        let outcome = match provider.probe_ms {
            Some(probe_ms) => format!("{}: a small network ran, right, in {probe_ms:.1} ms", provider.name),
            None => format!("{}: does not run, see above", provider.name),
        };
        let tolerance = match provider.tolerance_measured_on {
            _ if provider.tolerance == 0.0 => String::new(),
            Some(on) => format!("; right is within {}, compared on {on}", provider.tolerance),
            None => format!("; right is within {}, not measured", provider.tolerance),
        };
        page.row(if index == 0 { "providers" } else { "" }, &format!("{outcome}{tolerance}"));
    }

    page.title("models");
    for model in &report.models {
        let about = model.size_bytes.map_or_else(|| "broken, see above".to_owned(), megabytes);
        page.row(&model.name, &about);
    }
    if report.models.is_empty() {
        page.row("", "none is found by name");
    }

    page.title("free space");
    for disk in &report.disk {
        let free = disk.free_bytes.map_or_else(|| "not known".to_owned(), megabytes);
        page.row(disk.what, &format!("{free} in {}", disk.folder.display()));
    }
}

/// Lines of text under titles.
#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn title(&mut self, title: &str) {
        self.text.push_str(&format!("\n{title}\n"));
    }

    fn row(&mut self, label: &str, value: &str) {
        if label.chars().count() >= LABEL {
            self.lines("  ", "  ", label);
            return self.lines(&" ".repeat(LABEL + 2), &" ".repeat(LABEL + 2), value);
        }
        self.lines(&format!("  {label:<LABEL$}"), &" ".repeat(LABEL + 2), value);
    }

    fn fact(&mut self, label: &str, fact: Option<&Fact<String>>) {
        if let Some(fact) = fact {
            self.row(label, &fact.value);
        }
    }

    /// Writes `text` behind `first`, what does not fit behind `next`.
    fn lines(&mut self, first: &str, next: &str, text: &str) {
        for (number, paragraph) in text.lines().enumerate() {
            let mut line = if number == 0 { first.to_owned() } else { next.to_owned() };
            let mut is_fresh = true;
            for word in paragraph.split_whitespace() {
                let mut word = word;
                loop {
                    let width = line.chars().count();
                    let blank = usize::from(!is_fresh);
                    if width + blank + word.chars().count() <= COLUMNS {
                        line.push_str(if is_fresh { "" } else { " " });
                        line.push_str(word);
                        is_fresh = false;
                        break;
                    }
                    if is_fresh {
                        // A path that is longer than a line is cut where the line ends.
                        let room = COLUMNS.saturating_sub(width).max(1);
                        let at = word.char_indices().nth(room).map_or(word.len(), |(at, _)| at);
                        line.push_str(&word[..at]);
                        word = &word[at..];
                    }
                    self.text.push_str(line.trim_end());
                    self.text.push('\n');
                    line = next.to_owned();
                    is_fresh = true;
                }
            }
            self.text.push_str(line.trim_end());
            self.text.push('\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_is_wrapped_within_the_columns() {
        let mut page = Page::default();
        page.row("folder", &"word ".repeat(40));
        page.row("a name that is long", &format!("/{}", "é".repeat(200)));
        page.lines("! ", "  ", "one\n  two\nthree");
        assert!(page.text.lines().all(|line| line.chars().count() <= COLUMNS), "{}", page.text);
        assert_eq!(page.text.matches("word").count(), 40);
        assert_eq!(page.text.matches('é').count(), 200);
        assert!(page.text.ends_with("! one\n  two\n  three\n"), "{}", page.text);
    }
}
