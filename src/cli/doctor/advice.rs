//! What to install next: one table from what a machine has to the library and the provider that would use it.

use serde::Serialize;

use super::report::{ProviderReport, RuntimeReport};
use crate::runtime::{AcceleratorKind, Board, OLDEST_RUNTIME, Provider};

/// The libraries that Kiln is built and tested with.
const PINNED: &str = include_str!("../../../cross/onnxruntime.txt");

/// One thing that could be installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Advice {
    /// What it is for.
    pub(super) because: String,
    /// What to install.
    pub(super) install: String,
    /// The providers that it brings, by Kiln's names.
    pub(super) providers: Vec<&'static str>,
    /// How far that was tried with Kiln.
    pub(super) tried: &'static str,
}

/// A row: for which machines, what, and how far it was tried.
struct Row {
    applies: fn(&Board) -> bool,
    because: &'static str,
    install: &'static str,
    providers: &'static [&'static str],
    tried: &'static str,
}

const NOT_ON_HARDWARE: &str = "not run on hardware";

fn has(board: &Board, kind: AcceleratorKind) -> bool {
    board.accelerators.iter().any(|found| found.kind == kind)
}

fn is_jetson(board: &Board) -> bool {
    board.l4t.is_some() || (board.is_compatible("nvidia") && has(board, AcceleratorKind::NvidiaGpu))
}

/// The first rows are of boards, the last of parts that any machine may have.
const ROWS: [Row; 12] = [
    Row {
        applies: |board| is_jetson(board) && board.jetpack_major() == Some(7),
        because: "a Jetson with JetPack 7",
        install: "an ONNX Runtime built with CUDA and TensorRT for JetPack 7",
        providers: &["tensorrt", "cuda"],
        tried: NOT_ON_HARDWARE,
    },
    Row {
        applies: |board| is_jetson(board) && board.jetpack_major() == Some(6),
        because: "a Jetson with JetPack 6",
        install: "an ONNX Runtime, 1.22 or newer, built with CUDA and TensorRT for JetPack 6; containers and wheels for Jetson hold one",
        providers: &["tensorrt", "cuda"],
        tried: NOT_ON_HARDWARE,
    },
    Row {
        applies: |board| is_jetson(board) && board.jetpack_major() == Some(5),
        because: "a Jetson with JetPack 5, whose own ONNX Runtime is older than Kiln loads",
        install: "JetPack 6 where the board takes it, else an ONNX Runtime, 1.22 or newer, built for JetPack 5; the stock wheel for aarch64 runs on the processor",
        providers: &["tensorrt", "cuda"],
        tried: NOT_ON_HARDWARE,
    },
    Row {
        applies: |board| is_jetson(board) && board.jetpack_major() == Some(4),
        because: "a Jetson with JetPack 4, whose C library is older than the stock ONNX Runtime asks for (glibc 2.28)",
        install: "an ONNX Runtime, 1.22 or newer, built on the board",
        providers: &["cuda"],
        tried: NOT_ON_HARDWARE,
    },
    Row {
        applies: |board| has(board, AcceleratorKind::NvidiaGpu) && !is_jetson(board),
        because: "an NVIDIA GPU",
        install: "the wheel onnxruntime-gpu, with the CUDA and cuDNN that it names; TensorRT beside it for the provider of that name",
        providers: &["cuda", "tensorrt"],
        tried: NOT_ON_HARDWARE,
    },
    Row {
        applies: |board| has(board, AcceleratorKind::Hexagon) || board.is_compatible("qcom"),
        because: "a Qualcomm NPU",
        install: "the plugin of the wheel onnxruntime-qnn beside a stock ONNX Runtime, 1.24 or newer; then `kiln prepare` for the sizes that are made",
        providers: &["qnn"],
        tried: "run on the simulator of the NPU, not on hardware",
    },
    Row {
        applies: |board| has(board, AcceleratorKind::IntelNpu) || has(board, AcceleratorKind::IntelGpu),
        because: "an Intel GPU or NPU",
        install: "the wheel onnxruntime-openvino, or the plugin of onnxruntime-ep-openvino, with Intel's driver for the device",
        providers: &["openvino"],
        tried: "run on a processor, not on a GPU or NPU",
    },
    Row {
        applies: |board| has(board, AcceleratorKind::AmdGpu),
        because: "an AMD GPU",
        install: "the plugin of the wheel onnxruntime-ep-webgpu with a Vulkan driver, or the wheel onnxruntime-migraphx with ROCm",
        providers: &["webgpu", "migraphx"],
        tried: NOT_ON_HARDWARE,
    },
    Row {
        applies: |board| has(board, AcceleratorKind::AmdNpu),
        because: "an AMD NPU",
        install: "a build of ONNX Runtime with Vitis AI",
        providers: &["vitis"],
        tried: NOT_ON_HARDWARE,
    },
    Row {
        applies: |board| has(board, AcceleratorKind::RockchipNpu) || board.is_compatible("rockchip,rk3588"),
        because: "a Rockchip NPU",
        install: "nothing: the processor's own kernels run; a build of ONNX Runtime with RKNPU would be needed for the NPU",
        providers: &["rknpu"],
        tried: NOT_ON_HARDWARE,
    },
    Row {
        applies: |board| has(board, AcceleratorKind::Ascend),
        because: "a Huawei Ascend",
        install: "a build of ONNX Runtime with CANN",
        providers: &["cann"],
        tried: NOT_ON_HARDWARE,
    },
    Row {
        applies: |board| board.is_compatible("raspberrypi"),
        because: "a Raspberry Pi",
        install: "nothing: the processor's own kernels run; active cooling keeps its clock",
        providers: &[],
        tried: NOT_ON_HARDWARE,
    },
];

/// What would make more of `board`; nothing where all that it has is used.
pub(super) fn of(board: &Board, runtime: &RuntimeReport, providers: &[ProviderReport]) -> Vec<Advice> {
    let mut found = Vec::new();
    if runtime.version.is_none() {
        found.extend(stock(std::env::consts::ARCH));
    }
    let runs = |name: &str| {
        providers.iter().filter(|provider| provider.runs).any(|provider| match provider.name.split_once(":device_type=") {
            Some((on_device, _)) => on_device == name,
            // Without a device named, the small network may have run on the processor.
            None => provider.name == name && name != Provider::OpenVino.name(),
        })
    };
    for row in ROWS.iter().filter(|row| (row.applies)(board) && !row.providers.iter().any(|name| runs(name))) {
        found.push(Advice {
            because: row.because.to_owned(),
            install: row.install.to_owned(),
            providers: row.providers.to_vec(),
            tried: row.tried,
        });
    }
    found
}

/// The library that Kiln is tested with, for a machine that has none.
fn stock(architecture: &str) -> Option<Advice> {
    let rows = PINNED.lines().filter(|line| !line.starts_with('#'));
    let row = rows
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .find(|row| row.first().and_then(|triple| triple.split('-').next()) == Some(architecture));
    let because = "no ONNX Runtime was loaded".to_owned();
    let Some([_, package, version, platform, library, ..]) = row.as_deref() else {
        let install = format!("an ONNX Runtime, {OLDEST_RUNTIME} or newer, built for {architecture}");
        return Some(Advice { because, install, providers: vec!["cpu"], tried: "no library for this architecture is known" });
    };
    let install = format!(
        "`pip download --no-deps --only-binary=:all: --python-version 312 --platform {platform} {package}=={version}`, unpack \
         the wheel and lay {library} beside kiln as libonnxruntime.so"
    );
    let tried = if architecture == "x86_64" { "the tests run with it" } else { NOT_ON_HARDWARE };
    Some(Advice { because, install, providers: vec!["cpu"], tried })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{Accelerator, Fact};

    fn board(l4t: Option<&str>, compatible: &str, kinds: &[AcceleratorKind]) -> Board {
        let fact = |value: String| Fact { value, source: "a test".to_owned() };
        let accelerators =
            kinds.iter().map(|kind| Accelerator { device: "/dev/x".into(), kind: *kind, driver: None, may_open: true }).collect();
        let compatible = Fact { value: vec![compatible.to_owned()], source: "a test".to_owned() };
        Board { l4t: l4t.map(|release| fact(release.to_owned())), compatible: Some(compatible), accelerators, ..Board::default() }
    }

    fn provider(name: &str, runs: bool) -> ProviderReport {
        ProviderReport {
            name: name.into(),
            runtime_name: "",
            runs,
            probe_ms: runs.then_some(1.0),
            error: None,
            tolerance: 0.0,
            tolerance_measured_on: None,
        }
    }

    fn loaded() -> RuntimeReport {
        RuntimeReport { version: Some("1.31.1".into()), ..RuntimeReport::default() }
    }

    #[test]
    fn each_board_is_told_its_own() {
        use AcceleratorKind as Kind;
        let cases = [
            (board(Some("R38.2.0"), "nvidia,tegra264", &[Kind::NvidiaGpu]), "JetPack 7"),
            (board(Some("R36.4.3"), "nvidia,tegra234", &[Kind::NvidiaGpu]), "JetPack 6"),
            (board(Some("R35.4.1"), "nvidia,tegra194", &[Kind::NvidiaGpu]), "JetPack 5"),
            (board(Some("R32.7.1"), "nvidia,tegra210", &[]), "JetPack 4"),
            (board(None, "", &[Kind::NvidiaGpu]), "an NVIDIA GPU"),
            (board(None, "qcom,qcs6490", &[]), "a Qualcomm NPU"),
            (board(None, "", &[Kind::IntelGpu, Kind::IntelNpu]), "an Intel GPU or NPU"),
            (board(None, "", &[Kind::AmdGpu]), "an AMD GPU"),
            (board(None, "", &[Kind::AmdNpu]), "an AMD NPU"),
            (board(None, "rockchip,rk3588", &[]), "a Rockchip NPU"),
            (board(None, "", &[Kind::Ascend]), "a Huawei Ascend"),
            (board(None, "raspberrypi,5-model-b", &[]), "a Raspberry Pi"),
        ];
        assert_eq!(cases.len(), ROWS.len(), "each row has a case");
        for (board, part) in cases {
            let advice = of(&board, &loaded(), &[provider("cpu", true)]);
            let [only] = advice.as_slice() else { panic!("{part}: {advice:?}") };
            assert!(only.because.contains(part), "{only:?}");
        }
        assert_eq!(of(&board(None, "", &[]), &loaded(), &[]), [], "a machine without accelerators needs nothing");
    }

    #[test]
    fn every_provider_that_is_advised_is_known() {
        let names: Vec<&str> = ROWS.iter().flat_map(|row| row.providers).copied().collect();
        assert!(names.len() >= ROWS.len());
        for name in names {
            assert!(crate::runtime::Provider::named(name).is_some(), "{name}");
        }
    }

    #[test]
    fn what_runs_already_is_not_advised() {
        let orin = board(Some("R36.4.3"), "nvidia,tegra234", &[AcceleratorKind::NvidiaGpu]);
        assert_eq!(of(&orin, &loaded(), &[provider("cuda", true)]), []);
        assert_eq!(of(&orin, &loaded(), &[provider("cuda", false)]).len(), 1, "a provider that does not run helps nobody");
        let arc = board(None, "", &[AcceleratorKind::IntelGpu]);
        let device = |runs| [provider("openvino", true), provider("openvino:device_type=GPU", runs)];
        assert_eq!(of(&arc, &loaded(), &device(false)).len(), 1, "it ran on the processor");
        assert_eq!(of(&arc, &loaded(), &device(true)), []);
    }

    #[test]
    fn a_machine_without_a_library_is_told_which() {
        for architecture in ["x86_64", "aarch64"] {
            let advice = stock(architecture).unwrap();
            assert!(advice.install.contains("onnxruntime==") && advice.install.contains(architecture), "{advice:?}");
        }
        assert!(stock("riscv64").unwrap().install.contains("built for riscv64"));
        assert_eq!(of(&board(None, "", &[]), &RuntimeReport::default(), &[]).len(), 1);
    }
}
