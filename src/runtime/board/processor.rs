//! The processor: its kinds of cores, how many run, and the instructions that matter to networks.

use std::collections::BTreeSet;

use serde::Serialize;

use super::Fact;
use super::tree::{Tree, fields};

const CPUINFO: &str = "/proc/cpuinfo";
const FOLDER: &str = "/sys/devices/system/cpu";
/// No machine has more; a list such as `0-4294967295` would fill the memory.
const MOST_CORES: usize = 8192;
/// Real machines have three.
const MOST_KINDS: usize = 16;

/// Instructions that ONNX Runtime's kernels make use of: as `/proc/cpuinfo` names them, and as people do.
const FEATURES: [(&str, &str); 20] = [
    ("avx2", "avx2"),
    ("fma", "fma"),
    ("f16c", "f16c"),
    ("avx512f", "avx512"),
    ("avx512_vnni", "avx512-vnni"),
    ("avx_vnni", "avx-vnni"),
    ("avx512_bf16", "avx512-bf16"),
    ("avx512_fp16", "avx512-fp16"),
    ("amx_tile", "amx"),
    ("amx_int8", "amx-int8"),
    ("amx_bf16", "amx-bf16"),
    ("neon", "neon"),
    ("asimd", "neon"),
    ("asimdhp", "fp16"),
    ("asimddp", "dotprod"),
    ("i8mm", "i8mm"),
    ("bf16", "bf16"),
    ("sve", "sve"),
    ("sve2", "sve2"),
    ("sme", "sme"),
];

/// ARM cores by the maker's and the part's number (MIDR_EL1).
const ARM_CORES: [(u32, u32, &str); 40] = [
    (0x41, 0xc07, "Cortex-A7"),
    (0x41, 0xc08, "Cortex-A8"),
    (0x41, 0xc09, "Cortex-A9"),
    (0x41, 0xc0f, "Cortex-A15"),
    (0x41, 0xd01, "Cortex-A32"),
    (0x41, 0xd02, "Cortex-A34"),
    (0x41, 0xd03, "Cortex-A53"),
    (0x41, 0xd04, "Cortex-A35"),
    (0x41, 0xd05, "Cortex-A55"),
    (0x41, 0xd07, "Cortex-A57"),
    (0x41, 0xd08, "Cortex-A72"),
    (0x41, 0xd09, "Cortex-A73"),
    (0x41, 0xd0a, "Cortex-A75"),
    (0x41, 0xd0b, "Cortex-A76"),
    (0x41, 0xd0c, "Neoverse-N1"),
    (0x41, 0xd0d, "Cortex-A77"),
    (0x41, 0xd0e, "Cortex-A76AE"),
    (0x41, 0xd40, "Neoverse-V1"),
    (0x41, 0xd41, "Cortex-A78"),
    (0x41, 0xd42, "Cortex-A78AE"),
    (0x41, 0xd44, "Cortex-X1"),
    (0x41, 0xd46, "Cortex-A510"),
    (0x41, 0xd47, "Cortex-A710"),
    (0x41, 0xd48, "Cortex-X2"),
    (0x41, 0xd49, "Neoverse-N2"),
    (0x41, 0xd4b, "Cortex-A78C"),
    (0x41, 0xd4c, "Cortex-X1C"),
    (0x41, 0xd4d, "Cortex-A715"),
    (0x41, 0xd4e, "Cortex-X3"),
    (0x41, 0xd4f, "Neoverse-V2"),
    (0x41, 0xd80, "Cortex-A520"),
    (0x41, 0xd81, "Cortex-A720"),
    (0x4e, 0x003, "Denver 2"),
    (0x4e, 0x004, "Carmel"),
    (0x51, 0x001, "Oryon"),
    (0x51, 0x802, "Kryo 385 Gold"),
    (0x51, 0x803, "Kryo 385 Silver"),
    (0x51, 0x804, "Kryo 485 Gold"),
    (0x51, 0x805, "Kryo 485 Silver"),
    (0x48, 0xd01, "TaiShan v110"),
];

/// Cores of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CoreKind {
    /// Its name; of an unknown ARM core its numbers.
    pub name: String,
    /// How many of them run.
    pub cores: usize,
}

/// What is known of the processor.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Processor {
    /// Its kinds of cores, the first core's kind first.
    pub kinds: Option<Fact<Vec<CoreKind>>>,
    /// Cores that run.
    pub online: Option<Fact<usize>>,
    /// Cores that there are and that are switched off, by power mode or by a person.
    pub offline: Option<Fact<usize>>,
    /// How many cores' time a container is given.
    pub quota: Option<Fact<f64>>,
    /// Instructions that matter to networks.
    pub features: Option<Fact<Vec<String>>>,
}

impl Processor {
    pub(super) fn read(tree: &Tree) -> Self {
        let text = tree.text(CPUINFO);
        let online = cores(tree, "online");
        let present = cores(tree, "present");
        let offline = online
            .as_ref()
            .zip(present)
            .map(|(online, present)| Fact { value: present.value.difference(&online.value).count(), source: present.source });
        Self {
            kinds: text.as_deref().and_then(kinds).map(|value| Fact { value, source: CPUINFO.to_owned() }),
            online: online.map(|online| Fact { value: online.value.len(), source: online.source }),
            offline,
            quota: quota(tree),
            features: text.as_deref().and_then(features).map(|value| Fact { value, source: CPUINFO.to_owned() }),
        }
    }

    /// Its kinds of cores in one line.
    #[must_use]
    pub fn text(&self) -> String {
        match self.kinds.as_ref().map(|kinds| kinds.value.as_slice()) {
            None | Some([]) => "an unknown processor".to_owned(),
            Some([only]) => only.name.clone(),
            Some(several) => several.iter().map(|kind| format!("{} x {}", kind.cores, kind.name)).collect::<Vec<_>>().join(" + "),
        }
    }

    /// Cores that a program has the time of, at least 1.
    #[must_use]
    pub fn usable_cores(&self) -> usize {
        let online = self.online.as_ref().map_or_else(crate::runtime::logical_cores, |online| online.value);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a quota is a small positive number")]
        let given = self.quota.as_ref().map_or(online, |quota| quota.value.ceil() as usize);
        online.min(given).max(1)
    }

    /// Whether it has the instructions called `feature`.
    #[must_use]
    pub fn has(&self, feature: &str) -> bool {
        self.features.as_ref().is_some_and(|features| features.value.iter().any(|found| found == feature))
    }
}

fn kinds(text: &str) -> Option<Vec<CoreKind>> {
    let mut kinds: Vec<CoreKind> = Vec::new();
    let hexadecimal = |text: &str| u32::from_str_radix(text.trim_start_matches("0x"), 16).ok();
    let mut maker = None;
    for (name, value) in fields(text) {
        match name {
            "CPU implementer" => maker = hexadecimal(value),
            "CPU part" => {
                let (Some(maker), Some(part)) = (maker, hexadecimal(value)) else { continue };
                let known = ARM_CORES.iter().find(|core| (core.0, core.1) == (maker, part));
                add(&mut kinds, known.map_or_else(|| format!("ARM core {maker:#x}/{part:#x}"), |core| core.2.to_owned()));
            }
            _ => {}
        }
    }
    if kinds.is_empty() {
        for (_, value) in fields(text).filter(|(name, _)| *name == "model name") {
            let name = super::tree::clean(value)?.replace("(R)", "").replace("(TM)", "").replace("(tm)", "");
            add(&mut kinds, name.split_whitespace().collect::<Vec<_>>().join(" "));
        }
    }
    (!kinds.is_empty()).then_some(kinds)
}

/// Counts one more core called `name`.
fn add(kinds: &mut Vec<CoreKind>, name: String) {
    match kinds.iter().position(|kind| kind.name == name) {
        Some(at) => kinds[at].cores += 1,
        None if kinds.len() < MOST_KINDS => kinds.push(CoreKind { name, cores: 1 }),
        None => {}
    }
}

fn features(text: &str) -> Option<Vec<String>> {
    let (_, flags) = fields(text).find(|(name, _)| matches!(*name, "flags" | "Features"))?;
    let flags: BTreeSet<&str> = flags.split_whitespace().collect();
    let mut found: Vec<String> = Vec::new();
    for (flag, name) in FEATURES {
        if flags.contains(flag) && !found.iter().any(|known| known == name) {
            found.push(name.to_owned());
        }
    }
    Some(found)
}

/// The cores of a list such as `0-3,6`.
fn cores(tree: &Tree, name: &str) -> Option<Fact<BTreeSet<usize>>> {
    let list = tree.line(&format!("{FOLDER}/{name}"))?;
    let mut value = BTreeSet::new();
    for part in list.value.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.trim().parse::<usize>().ok()?, last.trim().parse::<usize>().ok()?);
        if last < first || last >= MOST_CORES {
            return None;
        }
        value.extend(first..=last);
    }
    Some(Fact { value, source: list.source })
}

/// A container's share of the processor, in cores.
fn quota(tree: &Tree) -> Option<Fact<f64>> {
    let share = |quota: &str, period: &str| {
        let (quota, period) = (quota.parse::<u32>().ok()?, period.parse::<u32>().ok()?);
        (quota > 0 && period > 0).then(|| f64::from(quota) / f64::from(period))
    };
    for folder in super::memory::group_folders(tree, "cpu") {
        if let Some(fact) = tree.line(&format!("{folder}/cpu.max"))
            && let Some(value) = fact.value.split_once(' ').and_then(|(quota, period)| share(quota, period))
        {
            return Some(Fact { value, source: fact.source });
        }
        if let Some(quota) = tree.line(&format!("{folder}/cpu.cfs_quota_us"))
            && let Some(period) = tree.line(&format!("{folder}/cpu.cfs_period_us"))
            && let Some(value) = share(&quota.value, &period.value)
        {
            return Some(Fact { value, source: quota.source });
        }
    }
    None
}
