//! Facts about the machine: what it is, what it holds, how warm it is.
//!
//! In: the root of a file system. Out: a [`Board`]. Nothing is run and nothing is written; what is not there, cannot be read or is not
//! what its name promises is a fact less. Every read is bounded, since a tree may be of anybody's making.

mod accelerator;
mod memory;
mod power;
mod processor;
mod tree;

use std::path::Path;

use serde::Serialize;

pub use accelerator::{Accelerator, AcceleratorKind, Driver};
pub use memory::{MachineMemory, MemoryLimit};
pub use power::{PowerMode, Temperature};
pub use processor::{CoreKind, Processor};
use tree::Tree;

/// One thing that was read, and the file it was read from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Fact<T> {
    /// What was read.
    pub value: T,
    /// Where.
    pub source: String,
}

/// What is known of the machine.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Board {
    /// What its maker calls it.
    pub model: Option<Fact<String>>,
    /// The names in its device tree, the most specific first.
    pub compatible: Option<Fact<Vec<String>>>,
    /// The system on a chip.
    pub soc: Option<Fact<String>>,
    /// NVIDIA's release for Jetson, such as `R36.4.3`.
    pub l4t: Option<Fact<String>>,
    /// The version of JetPack's package, such as `6.2+b77`.
    pub jetpack: Option<Fact<String>>,
    /// The distribution.
    pub system: Option<Fact<String>>,
    /// The kernel's release.
    pub kernel: Option<Fact<String>>,
    /// The C library, such as `glibc 2.36`.
    pub libc: Option<Fact<String>>,
    /// Its processor.
    pub processor: Processor,
    /// Its memory.
    pub memory: MachineMemory,
    /// Its thermal zones.
    pub temperatures: Vec<Temperature>,
    /// How it may spend power.
    pub power: PowerMode,
    /// Device files of accelerators.
    pub accelerators: Vec<Accelerator>,
    /// Drivers of accelerators whose version is told.
    pub drivers: Vec<Driver>,
}

impl Board {
    /// Reads what the file system under `root` tells; `/` is the machine itself.
    #[must_use]
    pub fn read(root: &Path) -> Self {
        let tree = Tree::new(root);
        let compatible = compatible(&tree);
        Self {
            model: model(&tree),
            soc: soc(&tree, compatible.as_ref()),
            compatible,
            l4t: l4t(&tree),
            jetpack: tree.package_version("nvidia-jetpack"),
            system: ["/etc/os-release", "/usr/lib/os-release"].iter().find_map(|path| system(&tree, path)),
            kernel: tree.line("/proc/sys/kernel/osrelease"),
            libc: libc(&tree),
            processor: Processor::read(&tree),
            memory: MachineMemory::read(&tree),
            temperatures: power::temperatures(&tree),
            power: PowerMode::read(&tree),
            accelerators: accelerator::accelerators(&tree),
            drivers: accelerator::drivers(&tree),
        }
    }

    /// Reads what measurements depend on alone, which is quickly done: all of [`Board::identity`], and how power may be spent.
    #[must_use]
    pub fn of_measurements(root: &Path) -> Self {
        let tree = Tree::new(root);
        let board = Self {
            model: model(&tree),
            compatible: compatible(&tree),
            processor: Processor::read(&tree),
            power: PowerMode::read(&tree),
            drivers: accelerator::drivers(&tree),
            ..Self::default()
        };
        // The table of packages is long, and only NVIDIA's boards have theirs in it.
        let l4t = if board.is_compatible("nvidia") { l4t(&tree) } else { l4t_of_file(&tree) };
        Self { l4t, ..board }
    }

    /// Reads the processor alone, which is quickly done.
    #[must_use]
    pub fn processor_of(root: &Path) -> Processor {
        Processor::read(&Tree::new(root))
    }

    /// The major version of JetPack: the package's, else the one that L4T's release belongs to.
    #[must_use]
    pub fn jetpack_major(&self) -> Option<u32> {
        let number = |text: &str| text.split(|letter: char| !letter.is_ascii_digit()).next().and_then(|text| text.parse().ok());
        if let Some(major) = self.jetpack.as_ref().and_then(|version| number(&version.value)) {
            return Some(major);
        }
        match number(self.l4t.as_ref()?.value.strip_prefix('R')?)? {
            32 => Some(4),
            34 | 35 => Some(5),
            36 => Some(6),
            38 | 39 => Some(7),
            _ => None,
        }
    }

    /// Whether the device tree names `vendor`, or a chip such as `rockchip,rk3588`.
    #[must_use]
    pub fn is_compatible(&self, vendor_or_chip: &str) -> bool {
        let names = self.compatible.iter().flat_map(|compatible| &compatible.value);
        names.into_iter().any(|name| name == vendor_or_chip || name.split(',').next() == Some(vendor_or_chip))
    }

    /// What measurements of this machine depend on, in one line: its name, processor, cores and drivers.
    #[must_use]
    pub fn identity(&self) -> String {
        let mut parts = Vec::new();
        parts.extend(self.model.as_ref().map(|model| model.value.clone()));
        parts.push(self.processor.text());
        parts.push(format!("{} cores", self.processor.usable_cores()));
        parts.extend(self.l4t.as_ref().map(|release| format!("L4T {}", release.value)));
        parts.extend(self.drivers.iter().map(|driver| format!("{} {}", driver.name, driver.version)));
        parts.join(", ")
    }
}

fn model(tree: &Tree) -> Option<Fact<String>> {
    let of_device_tree = ["/proc/device-tree/model", "/sys/firmware/devicetree/base/model"];
    if let Some(model) = of_device_tree.iter().find_map(|path| tree.line(path)) {
        return Some(model);
    }
    // What makers of mainboards leave when they fill in nothing.
    const PLACEHOLDERS: [&str; 5] =
        ["to be filled by o.e.m.", "default string", "system product name", "system manufacturer", "not specified"];
    let said = |name: &str| {
        let fact = tree.line(&format!("/sys/class/dmi/id/{name}"))?;
        (!PLACEHOLDERS.contains(&fact.value.to_lowercase().as_str())).then_some(fact)
    };
    let product = said("product_name").or_else(|| said("board_name"))?;
    let value = match said("sys_vendor").or_else(|| said("board_vendor")) {
        Some(vendor) if !product.value.starts_with(&vendor.value) => format!("{} {}", vendor.value, product.value),
        _ => product.value,
    };
    Some(Fact { value, source: product.source })
}

fn compatible(tree: &Tree) -> Option<Fact<Vec<String>>> {
    ["/proc/device-tree/compatible", "/sys/firmware/devicetree/base/compatible"].iter().find_map(|path| {
        let text = tree.text(path)?;
        let names: Vec<String> = text.split('\0').filter_map(tree::clean).take(16).collect();
        (!names.is_empty()).then(|| Fact { value: names, source: (*path).to_owned() })
    })
}

fn soc(tree: &Tree, compatible: Option<&Fact<Vec<String>>>) -> Option<Fact<String>> {
    let said = |name: &str| tree.line(&format!("/sys/devices/soc0/{name}"));
    // A kernel without the chip's name gives its number under an interface's name, such as `jep106:0070:0498`.
    let parts: Vec<Fact<String>> = ["family", "machine"].iter().filter_map(|name| said(name)).collect();
    if let Some(first) = parts.first() {
        let words: Vec<&str> = parts.iter().map(|part| part.value.as_str()).collect();
        return Some(Fact { value: words.join(" "), source: first.source.clone() });
    }
    // The last name of a device tree is the chip's: those before it are the board's.
    if let Some(chip) = compatible.and_then(|names| names.value.last().map(|chip| (chip, &names.source))) {
        return Some(Fact { value: chip.0.clone(), source: chip.1.clone() });
    }
    said("soc_id").or_else(|| tree.field("/proc/cpuinfo", "Hardware"))
}

/// `# R36 (release), REVISION: 4.3, GCID: …` is `R36.4.3`; without that file NVIDIA's core package tells `36.4.3-2025…`.
fn l4t(tree: &Tree) -> Option<Fact<String>> {
    l4t_of_file(tree).or_else(|| {
        let package = tree.package_version("nvidia-l4t-core")?;
        let release = package.value.split('-').next()?;
        let is_number = release.chars().all(|letter| letter.is_ascii_digit() || letter == '.');
        is_number.then(|| Fact { value: format!("R{release}"), source: package.source.clone() })
    })
}

fn l4t_of_file(tree: &Tree) -> Option<Fact<String>> {
    const FILE: &str = "/etc/nv_tegra_release";
    let text = tree.text(FILE)?;
    let line = text.lines().next()?.trim_start_matches('#').trim();
    let major = line.split_whitespace().next()?.strip_prefix('R')?.parse::<u16>().ok()?;
    let revision = line.split("REVISION:").nth(1)?.split(',').next().and_then(tree::clean)?;
    let is_number = revision.len() < 16 && revision.chars().all(|letter| letter.is_ascii_digit() || letter == '.');
    is_number.then(|| Fact { value: format!("R{major}.{revision}"), source: FILE.to_owned() })
}

fn system(tree: &Tree, path: &str) -> Option<Fact<String>> {
    let text = tree.text(path)?;
    let value = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(Fact { value: tree::clean(value.trim().trim_matches('"'))?, source: path.to_owned() })
}

fn libc(tree: &Tree) -> Option<Fact<String>> {
    const FOLDERS: [&str; 8] = [
        "/lib/aarch64-linux-gnu",
        "/lib/x86_64-linux-gnu",
        "/lib/arm-linux-gnueabihf",
        "/usr/lib/aarch64-linux-gnu",
        "/usr/lib/x86_64-linux-gnu",
        "/lib64",
        "/usr/lib64",
        "/usr/lib",
    ];
    const SAYS: &[u8] = b"stable release version ";
    let glibc = |folder: &str| {
        let path = format!("{folder}/libc.so.6");
        let bytes = tree.bytes(&path, tree::LARGEST_LIBRARY_BYTES)?;
        let at = bytes.windows(SAYS.len()).position(|window| window == SAYS)?;
        let number = |byte: &&u8| byte.is_ascii_digit() || **byte == b'.';
        let version: Vec<u8> = bytes.get(at + SAYS.len()..)?.iter().take_while(number).take(12).copied().collect();
        let version = String::from_utf8(version).ok()?;
        let version = version.trim_end_matches('.');
        (!version.is_empty()).then(|| Fact { value: format!("glibc {version}"), source: path.clone() })
    };
    FOLDERS.iter().find_map(|folder| glibc(folder)).or_else(|| {
        let loader = tree.names("/lib").into_iter().find(|name| name.starts_with("ld-musl-"))?;
        Some(Fact { value: "musl".to_owned(), source: format!("/lib/{loader}") })
    })
}
