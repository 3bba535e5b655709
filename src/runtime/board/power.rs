//! How warm the machine is, and how much power it may spend.

use std::path::Path;

use serde::Serialize;

use super::Fact;
use super::tree::{Tree, clean};

const ZONES: &str = "/sys/class/thermal";
const POLICIES: &str = "/sys/devices/system/cpu/cpufreq";
/// Beyond these a sensor is broken or switched off, and says so by such a number.
const SENSIBLE_CELSIUS: std::ops::RangeInclusive<f64> = -55.0..=150.0;
/// A machine has some dozen zones and of each some trip points.
const MOST_ZONES: usize = 64;
const MOST_TRIPS: usize = 16;

/// One thermal zone.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Temperature {
    /// What it stands for, such as `cpu-thermal`.
    pub name: String,
    /// How warm it is, in degrees Celsius.
    pub celsius: f64,
    /// From where on the kernel slows the machine down, in degrees Celsius.
    pub slows_at_celsius: Option<f64>,
    /// The file.
    pub source: String,
}

/// How the machine may spend power.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct PowerMode {
    /// The clock governors of the processor, each once.
    pub governors: Option<Fact<Vec<String>>>,
    /// The power mode: a Jetson's, or a laptop's profile.
    pub mode: Option<Fact<String>>,
    /// What a Raspberry Pi's firmware complains of now, such as too low a voltage; empty when it is content.
    pub complaints: Option<Fact<Vec<String>>>,
}

impl PowerMode {
    pub(super) fn read(tree: &Tree) -> Self {
        Self { governors: governors(tree), mode: mode(tree), complaints: complaints(tree) }
    }
}

impl Temperature {
    /// What is measured on the machine whose file system lies under `root`; `/` is this one.
    #[must_use]
    pub fn of_machine(root: &Path) -> Vec<Self> {
        temperatures(&Tree::new(root))
    }
}

pub(super) fn temperatures(tree: &Tree) -> Vec<Temperature> {
    let zones = tree.names(ZONES).into_iter().filter(|name| name.starts_with("thermal_zone")).take(MOST_ZONES);
    zones
        .filter_map(|zone| {
            let folder = format!("{ZONES}/{zone}");
            let source = format!("{folder}/temp");
            let celsius = celsius(tree, &source)?;
            let name = tree.line(&format!("{folder}/type")).map_or(zone, |name| name.value);
            let trips = (0..MOST_TRIPS).filter_map(|trip| {
                let kind = tree.line(&format!("{folder}/trip_point_{trip}_type"))?;
                // The fan's trip points are `active`, and what ends the machine is `critical`.
                matches!(kind.value.as_str(), "passive" | "hot").then(|| celsius_of_trip(tree, &folder, trip)).flatten()
            });
            let slows_at_celsius = trips.filter(|trip| *trip > 30.0).min_by(f64::total_cmp);
            Some(Temperature { name, celsius, slows_at_celsius, source })
        })
        .collect()
}

fn celsius_of_trip(tree: &Tree, folder: &str, trip: usize) -> Option<f64> {
    celsius(tree, &format!("{folder}/trip_point_{trip}_temp"))
}

/// The kernel gives thousandths of a degree.
fn celsius(tree: &Tree, path: &str) -> Option<f64> {
    let thousandths = tree.number::<i32>(path)?;
    Some(f64::from(thousandths) / 1000.0).filter(|celsius| SENSIBLE_CELSIUS.contains(celsius))
}

fn governors(tree: &Tree) -> Option<Fact<Vec<String>>> {
    let mut found: Vec<String> = Vec::new();
    let mut source = None;
    for policy in tree.names(POLICIES).iter().filter(|name| name.starts_with("policy")).take(256) {
        if let Some(fact) = tree.line(&format!("{POLICIES}/{policy}/scaling_governor")) {
            source.get_or_insert(fact.source);
            if !found.contains(&fact.value) {
                found.push(fact.value);
            }
        }
    }
    source.map(|source| Fact { value: found, source })
}

fn mode(tree: &Tree) -> Option<Fact<String>> {
    const STATUS: &str = "/var/lib/nvpmodel/status";
    let of_jetson = tree.line(STATUS).and_then(|status| {
        let digits = status.value.split_whitespace().next()?.strip_prefix("pmode:")?.to_owned();
        let number: u16 = digits.parse().ok()?;
        let value = jetson_mode(tree, number).unwrap_or_else(|| format!("mode {number}"));
        Some(Fact { value, source: status.source })
    });
    of_jetson.or_else(|| tree.line("/sys/firmware/acpi/platform_profile"))
}

/// The name of a Jetson's power mode, out of lines such as `< POWER_MODEL ID=0 NAME=MAXN >`.
fn jetson_mode(tree: &Tree, number: u16) -> Option<String> {
    let text = tree.text("/etc/nvpmodel.conf")?;
    text.lines().filter(|line| !line.trim_start().starts_with('#')).find_map(|line| {
        let words = line.trim().strip_prefix("<")?.trim_end_matches('>').trim().strip_prefix("POWER_MODEL")?;
        let value = |name: &str| words.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        (value("ID")?.parse::<u16>().ok()? == number).then(|| value("NAME").and_then(clean)).flatten()
    })
}

/// The bits of `get_throttled` that tell of now, not of some time since the start.
fn complaints(tree: &Tree) -> Option<Fact<Vec<String>>> {
    const PLACES: [&str; 2] = [
        "/sys/devices/platform/soc/soc:firmware/get_throttled",
        "/sys/devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled",
    ];
    const BITS: [(u32, &str); 4] = [
        (0, "the supply's voltage is too low"),
        (1, "the clock is held down"),
        (2, "it is throttled"),
        (3, "the soft temperature limit is reached"),
    ];
    let said = PLACES.iter().find_map(|path| tree.line(path))?;
    let bits = u32::from_str_radix(said.value.trim_start_matches("0x"), 16).ok()?;
    let value = BITS.iter().filter(|(bit, _)| bits >> bit & 1 == 1).map(|(_, text)| (*text).to_owned()).collect();
    Some(Fact { value, source: said.source })
}
