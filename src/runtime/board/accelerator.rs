//! Device files of graphics processors and neural accelerators, and the drivers behind them.

use serde::Serialize;

use super::tree::{Tree, clean};

/// What stands behind a device file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AcceleratorKind {
    /// NVIDIA's graphics processor, on a card or in a Jetson.
    NvidiaGpu,
    /// NVIDIA's deep-learning accelerator in a Jetson.
    NvidiaDla,
    /// Intel's graphics processor.
    IntelGpu,
    /// Intel's neural processor.
    IntelNpu,
    /// AMD's graphics processor.
    AmdGpu,
    /// AMD's neural processor.
    AmdNpu,
    /// Qualcomm's Hexagon processor.
    Hexagon,
    /// Rockchip's neural processor.
    RockchipNpu,
    /// Huawei's Ascend processor.
    Ascend,
    /// Another neural accelerator.
    OtherNpu,
    /// Another graphics processor.
    OtherGpu,
}

/// A device file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Accelerator {
    /// The file.
    pub device: String,
    /// What stands behind it.
    pub kind: AcceleratorKind,
    /// The kernel's driver, where it is told.
    pub driver: Option<String>,
    /// Whether this process may read and write it.
    pub may_open: bool,
}

/// A driver and its version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Driver {
    /// Its name in the kernel.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Where that was read.
    pub source: String,
}

/// Files whose name says what they are: the folder, how the name begins (and only digits follow), the kind.
const NAMED: [(&str, &str, AcceleratorKind); 13] = [
    ("/dev", "nvidia", AcceleratorKind::NvidiaGpu),
    ("/dev", "nvhost-gpu", AcceleratorKind::NvidiaGpu),
    ("/dev", "nvhost-ctrl-nvdla", AcceleratorKind::NvidiaDla),
    ("/dev", "rknpu", AcceleratorKind::RockchipNpu),
    ("/dev", "adsprpc-smd", AcceleratorKind::Hexagon),
    ("/dev", "fastrpc-cdsp", AcceleratorKind::Hexagon),
    ("/dev", "kfd", AcceleratorKind::AmdGpu),
    ("/dev", "davinci", AcceleratorKind::Ascend),
    ("/dev", "apex_", AcceleratorKind::OtherNpu),
    ("/dev", "ethosu", AcceleratorKind::OtherNpu),
    ("/dev", "hailo", AcceleratorKind::OtherNpu),
    ("/dev", "mali", AcceleratorKind::OtherGpu),
    ("/dev", "kgsl-3d", AcceleratorKind::OtherGpu),
];

/// Numbered files of the kernel's own classes, whose driver says what they are.
const CLASSES: [(&str, &str, &str, AcceleratorKind); 2] = [
    ("/dev/dri", "renderD", "/sys/class/drm", AcceleratorKind::OtherGpu),
    ("/dev/accel", "accel", "/sys/class/accel", AcceleratorKind::OtherNpu),
];

/// What a driver stands for.
const DRIVERS: [(&str, AcceleratorKind); 12] = [
    ("nvidia", AcceleratorKind::NvidiaGpu),
    ("nouveau", AcceleratorKind::NvidiaGpu),
    ("tegra-drm", AcceleratorKind::NvidiaGpu),
    ("i915", AcceleratorKind::IntelGpu),
    ("xe", AcceleratorKind::IntelGpu),
    ("intel_vpu", AcceleratorKind::IntelNpu),
    ("amdgpu", AcceleratorKind::AmdGpu),
    ("amdxdna", AcceleratorKind::AmdNpu),
    ("RKNPU", AcceleratorKind::RockchipNpu),
    ("rknpu", AcceleratorKind::RockchipNpu),
    ("rocket", AcceleratorKind::RockchipNpu),
    ("qaic", AcceleratorKind::OtherNpu),
];

pub(super) fn accelerators(tree: &Tree) -> Vec<Accelerator> {
    let mut found = Vec::new();
    let files = tree.names("/dev");
    for (folder, stem, kind) in NAMED {
        for name in files.iter().filter(|name| is_numbered(name, stem)) {
            found.push(accelerator(tree, format!("{folder}/{name}"), kind, None));
        }
    }
    for (folder, stem, class, unknown) in CLASSES {
        for name in tree.names(folder).iter().filter(|name| is_numbered(name, stem)) {
            let driver = driver_of(tree, &format!("{class}/{name}/device"));
            let known = DRIVERS.iter().find(|(known, _)| driver.as_deref() == Some(*known));
            found.push(accelerator(tree, format!("{folder}/{name}"), known.map_or(unknown, |known| known.1), driver));
        }
    }
    found.truncate(64);
    found
}

fn is_numbered(name: &str, stem: &str) -> bool {
    name.strip_prefix(stem).is_some_and(|rest| rest.chars().all(|letter| letter.is_ascii_digit()))
}

fn accelerator(tree: &Tree, device: String, kind: AcceleratorKind, driver: Option<String>) -> Accelerator {
    let may_open = may_open(&tree.place(&device));
    Accelerator { device, kind, driver, may_open }
}

/// Asked without opening: opening a device may wake it.
#[cfg(unix)]
fn may_open(path: &std::path::Path) -> bool {
    use rustix::fs::{Access, access};
    access(path, Access::READ_OK | Access::WRITE_OK).is_ok()
}

#[cfg(not(unix))]
fn may_open(path: &std::path::Path) -> bool {
    std::fs::File::open(path).is_ok()
}

/// The driver of a device: `DRIVER=i915` of its `uevent`.
fn driver_of(tree: &Tree, device: &str) -> Option<String> {
    let text = tree.text(&format!("{device}/uevent"))?;
    text.lines().find_map(|line| line.strip_prefix("DRIVER=")).and_then(clean)
}

pub(super) fn drivers(tree: &Tree) -> Vec<Driver> {
    const MODULES: [&str; 5] = ["nvidia", "nvgpu", "rknpu", "amdgpu", "intel_vpu"];
    let mut found = Vec::new();
    for name in MODULES {
        if let Some(version) = tree.line(&format!("/sys/module/{name}/version")) {
            found.push(Driver { name: name.to_owned(), version: version.value, source: version.source });
        }
    }
    // Of a driver that is built in, or out of whose module the version was left.
    if !found.iter().any(|driver| driver.name == "nvidia") {
        let line = tree.line("/proc/driver/nvidia/version");
        let is_version = |word: &&str| word.contains('.') && word.chars().all(|letter| letter.is_ascii_digit() || letter == '.');
        let version = line.as_ref().and_then(|line| line.value.split_whitespace().find(is_version));
        if let (Some(version), Some(line)) = (version, &line) {
            found.push(Driver { name: "nvidia".into(), version: version.to_owned(), source: line.source.clone() });
        }
    }
    if !found.iter().any(|driver| driver.name == "rknpu")
        && let Some(line) = tree.line("/sys/kernel/debug/rknpu/version")
        && let Some((_, version)) = line.value.rsplit_once('v')
    {
        found.push(Driver { name: "rknpu".into(), version: version.to_owned(), source: line.source });
    }
    found
}
