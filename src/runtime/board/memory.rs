//! Memory and swap of the machine, and what a container's limit leaves of it.

use std::path::Path;

use serde::Serialize;

use super::Fact;
use super::tree::{Tree, fields};

const MEMINFO: &str = "/proc/meminfo";
const GROUPS: &str = "/sys/fs/cgroup";
/// Version 1 writes its largest number where there is no limit; no machine has as much.
const NO_LIMIT_BYTES: u64 = 1 << 60;
/// Groups lie within groups; real ones stay far below.
const DEEPEST_GROUP: usize = 32;

/// A limit that a container or a service stands under.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct MemoryLimit {
    /// The most that it may hold, in bytes.
    pub limit_bytes: u64,
    /// What it holds now and cannot give back, in bytes.
    pub used_bytes: Option<u64>,
}

/// Memory in bytes.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct MachineMemory {
    /// All that the machine has.
    pub total_bytes: Option<Fact<u64>>,
    /// What programs can have without swapping.
    pub available_bytes: Option<Fact<u64>>,
    /// Swap in all.
    pub swap_total_bytes: Option<Fact<u64>>,
    /// Swap that is free.
    pub swap_free_bytes: Option<Fact<u64>>,
    /// The tightest limit of a container or a service.
    pub limit: Option<Fact<MemoryLimit>>,
}

impl MachineMemory {
    pub(super) fn read(tree: &Tree) -> Self {
        let text = tree.text(MEMINFO).unwrap_or_default();
        let bytes = |name: &str| {
            let (_, value) = fields(&text).find(|(found, _)| *found == name)?;
            let value = value.strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)?;
            Some(Fact { value, source: MEMINFO.to_owned() })
        };
        Self {
            total_bytes: bytes("MemTotal"),
            available_bytes: bytes("MemAvailable").or_else(|| bytes("MemFree")),
            swap_total_bytes: bytes("SwapTotal"),
            swap_free_bytes: bytes("SwapFree"),
            limit: limit(tree),
        }
    }

    /// Reads what the file system under `root` tells; `/` is the machine itself.
    #[must_use]
    pub fn of_machine(root: &Path) -> Self {
        Self::read(&Tree::new(root))
    }

    /// The most that this process could ever hold in memory, in bytes: the machine's, or a tighter limit.
    #[must_use]
    pub fn ceiling_bytes(&self) -> Option<u64> {
        let total = self.total_bytes.as_ref().map(|fact| fact.value);
        let limit = self.limit.as_ref().map(|fact| fact.value.limit_bytes);
        total.into_iter().chain(limit).min()
    }

    /// What this process can have now without swapping, in bytes: the machine's, or what is left below a tighter limit.
    #[must_use]
    pub fn usable_bytes(&self) -> Option<u64> {
        let available = self.available_bytes.as_ref().map(|fact| fact.value);
        let left = self.limit.as_ref().map(|fact| fact.value.limit_bytes.saturating_sub(fact.value.used_bytes.unwrap_or(0)));
        available.into_iter().chain(left).min()
    }
}

/// The folders of the groups that this process is in, from its own to the root, for `controller` of either version.
pub(super) fn group_folders(tree: &Tree, controller: &str) -> Vec<String> {
    let groups = tree.text("/proc/self/cgroup").unwrap_or_default();
    let mut folders = Vec::new();
    for line in groups.lines().take(64) {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else { continue };
        let top = match controllers {
            "" => GROUPS.to_owned(),
            named if named.split(',').any(|name| name == controller) => format!("{GROUPS}/{controller}"),
            _ => continue,
        };
        let steps: Vec<&str> = path.split('/').filter(|step| !step.is_empty() && *step != "..").take(DEEPEST_GROUP).collect();
        for length in (0..=steps.len()).rev() {
            folders.push(std::iter::once(top.as_str()).chain(steps[..length].iter().copied()).collect::<Vec<_>>().join("/"));
        }
    }
    if folders.is_empty() {
        folders = vec![GROUPS.to_owned(), format!("{GROUPS}/{controller}")];
    }
    folders
}

fn limit(tree: &Tree) -> Option<Fact<MemoryLimit>> {
    let mut tightest: Option<Fact<MemoryLimit>> = None;
    for folder in group_folders(tree, "memory") {
        // Each version's limit, use, and the part of the use that is files read before and given back when memory is short.
        for (limit, used, files) in [
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.high", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ] {
            let source = format!("{folder}/{limit}");
            let Some(limit_bytes) = tree.number::<u64>(&source).filter(|limit| (1..NO_LIMIT_BYTES).contains(limit)) else {
                continue;
            };
            let used_bytes = tree.number::<u64>(&format!("{folder}/{used}")).map(|used| {
                let statistics = tree.text(&format!("{folder}/memory.stat")).unwrap_or_default();
                let given_back = statistics.lines().find_map(|line| line.strip_prefix(files)?.trim().parse::<u64>().ok());
                used.saturating_sub(given_back.unwrap_or(0))
            });
            if tightest.as_ref().is_none_or(|known| limit_bytes < known.value.limit_bytes) {
                tightest = Some(Fact { value: MemoryLimit { limit_bytes, used_bytes }, source });
            }
        }
    }
    tightest
}
