//! Facts about machines, read from small trees of files.
//!
//! The trees are written by hand from the documented formats of the kernel's, NVIDIA's and Debian's files; none was copied from a
//! machine.

#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::fs;
use std::path::Path;

use kiln::runtime::{AcceleratorKind, Board};
use tempfile::TempDir;

/// A tree of files: each path with its content.
fn tree(files: &[(&str, &str)]) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let place = root.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(place, content).unwrap();
    }
    root
}

fn read(root: &TempDir) -> Board {
    Board::read(root.path())
}

/// `/proc/cpuinfo` of ARM cores: maker, part, how many.
fn arm(features: &str, kinds: &[(&str, &str, usize)]) -> String {
    let mut text = String::new();
    let cores = kinds.iter().flat_map(|(maker, part, count)| std::iter::repeat_n((maker, part), *count));
    for (number, (maker, part)) in cores.enumerate() {
        text += &format!(
            "processor\t: {number}\nBogoMIPS\t: 62.50\nFeatures\t: {features}\nCPU implementer\t: {maker}\nCPU architecture: 8\n\
             CPU variant\t: 0x0\nCPU part\t: {part}\nCPU revision\t: 1\n\n"
        );
    }
    text
}

fn kinds(board: &Board) -> Vec<(&str, usize)> {
    board.processor.kinds.iter().flat_map(|kinds| &kinds.value).map(|kind| (kind.name.as_str(), kind.cores)).collect()
}

fn features(board: &Board) -> String {
    board.processor.features.as_ref().unwrap().value.join(" ")
}

fn value<T: Clone>(fact: Option<&kiln::runtime::Fact<T>>) -> T {
    fact.unwrap().value.clone()
}

#[test]
fn a_jetson_orin_with_jetpack_6() {
    let cpuinfo = arm("fp asimd evtstrm aes asimdhp asimdrdm asimddp", &[("0x41", "0xd42", 4)]);
    let root = tree(&[
        ("/proc/device-tree/model", "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0"),
        ("/proc/device-tree/compatible", "nvidia,p3768-0000+p3767-0005-super\0nvidia,p3767-0005\0nvidia,tegra234\0"),
        (
            "/etc/nv_tegra_release",
            "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed Jan  8 01:49:37 UTC 2025\n# KERNEL_VARIANT: oot\n",
        ),
        (
            "/var/lib/dpkg/status",
            "Package: nvidia-jetpack-dev\nStatus: install ok installed\nVersion: 1.0\n\nPackage: nvidia-jetpack\nStatus: install ok installed\nArchitecture: arm64\nVersion: 6.2+b77\n\n",
        ),
        ("/etc/os-release", "PRETTY_NAME=\"Ubuntu 22.04.5 LTS\"\nNAME=\"Ubuntu\"\n"),
        ("/proc/sys/kernel/osrelease", "5.15.148-tegra\n"),
        ("/proc/cpuinfo", &cpuinfo),
        ("/sys/devices/system/cpu/online", "0-3\n"),
        ("/sys/devices/system/cpu/present", "0-5\n"),
        (
            "/proc/meminfo",
            "MemTotal:        7802560 kB\nMemFree:          512000 kB\nMemAvailable:    6000000 kB\nSwapTotal:       3901280 kB\nSwapFree:        3901280 kB\n",
        ),
        ("/sys/class/thermal/thermal_zone0/type", "cpu-thermal\n"),
        ("/sys/class/thermal/thermal_zone0/temp", "51281\n"),
        ("/sys/class/thermal/thermal_zone0/trip_point_0_type", "critical\n"),
        ("/sys/class/thermal/thermal_zone0/trip_point_0_temp", "104500\n"),
        ("/sys/class/thermal/thermal_zone0/trip_point_1_type", "passive\n"),
        ("/sys/class/thermal/thermal_zone0/trip_point_1_temp", "99000\n"),
        ("/sys/class/thermal/thermal_zone2/type", "cv0-thermal\n"),
        // A zone that is switched off answers with a number that is none.
        ("/sys/class/thermal/thermal_zone2/temp", "-256000\n"),
        ("/sys/devices/system/cpu/cpufreq/policy0/scaling_governor", "schedutil\n"),
        ("/var/lib/nvpmodel/status", "pmode:0001 fmode:fanNull\n"),
        (
            "/etc/nvpmodel.conf",
            "# < POWER_MODEL ID=1 NAME=OLD >\n< POWER_MODEL ID=0 NAME=15W >\n< POWER_MODEL ID=1 NAME=25W >\nCPU_ONLINE CORE_0 1\n",
        ),
        ("/dev/nvhost-gpu", ""),
        ("/dev/nvidia0", ""),
        ("/dev/nvidiactl", ""),
        ("/proc/driver/nvidia/version", "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  540.4.0  Release Build\n"),
    ]);
    let board = read(&root);
    assert_eq!(value(board.model.as_ref()), "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super");
    assert_eq!(board.model.as_ref().unwrap().source, "/proc/device-tree/model");
    assert_eq!(value(board.l4t.as_ref()), "R36.4.3");
    assert_eq!(value(board.jetpack.as_ref()), "6.2+b77");
    assert_eq!(board.jetpack_major(), Some(6));
    assert!(board.is_compatible("nvidia") && board.is_compatible("nvidia,tegra234") && !board.is_compatible("rockchip"));
    assert_eq!(value(board.soc.as_ref()), "nvidia,tegra234");
    assert_eq!(value(board.system.as_ref()), "Ubuntu 22.04.5 LTS");
    assert_eq!(value(board.kernel.as_ref()), "5.15.148-tegra");
    assert_eq!(kinds(&board), [("Cortex-A78AE", 4)]);
    assert_eq!((value(board.processor.online.as_ref()), value(board.processor.offline.as_ref())), (4, 2));
    assert_eq!(features(&board), "neon fp16 dotprod");
    assert_eq!(value(board.memory.total_bytes.as_ref()), 7_802_560 * 1024);
    assert_eq!(value(board.memory.swap_free_bytes.as_ref()), 3_901_280 * 1024);
    assert_eq!((board.memory.limit.as_ref(), board.memory.usable_bytes()), (None, Some(6_000_000 * 1024)));
    let [zone] = board.temperatures.as_slice() else { unreachable!("{:?}", board.temperatures) };
    assert_eq!((zone.name.as_str(), zone.celsius, zone.slows_at_celsius), ("cpu-thermal", 51.281, Some(99.0)));
    assert_eq!(value(board.power.mode.as_ref()), "25W");
    assert_eq!(value(board.power.governors.as_ref()), ["schedutil"]);
    let devices: Vec<_> = board.accelerators.iter().map(|found| (found.device.as_str(), found.kind, found.may_open)).collect();
    let expected = [("/dev/nvidia0", AcceleratorKind::NvidiaGpu, true), ("/dev/nvhost-gpu", AcceleratorKind::NvidiaGpu, true)];
    assert_eq!(devices, expected);
    assert_eq!(board.drivers[0].version, "540.4.0");
    let identity = board.identity();
    for part in ["Jetson Orin Nano", "Cortex-A78AE", "4 cores", "L4T R36.4.3", "nvidia 540.4.0"] {
        assert!(identity.contains(part), "{identity}");
    }
}

#[test]
fn a_jetpack_without_its_package_is_known_by_its_release() {
    for (text, release, jetpack) in [
        ("# R32 (release), REVISION: 7.1, GCID: 29818004, BOARD: t210ref", Some("R32.7.1"), Some(4)),
        ("# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref", Some("R35.4.1"), Some(5)),
        ("# R38 (release), REVISION: 2.0, GCID: 1, BOARD: generic", Some("R38.2.0"), Some(7)),
        ("# R99 (release), REVISION: 1.0, GCID: 1", Some("R99.1.0"), None),
        ("# R36 (release), REVISION: rm -rf, GCID: 1", None, None),
        ("nothing of the kind", None, None),
    ] {
        let board = read(&tree(&[("/etc/nv_tegra_release", text)]));
        assert_eq!(board.l4t.as_ref().map(|release| release.value.as_str()), release, "{text}");
        assert_eq!(board.jetpack_major(), jetpack, "{text}");
    }
    let status = "Package: nvidia-jetpack\nStatus: deinstall ok config-files\nVersion: 5.1\n\nPackage: nvidia-l4t-core\nStatus: install ok installed\nVersion: 36.4.3-20250107174145\n";
    let board = read(&tree(&[("/var/lib/dpkg/status", status)]));
    assert_eq!(board.jetpack, None, "a package that was removed is not there");
    assert_eq!((value(board.l4t.as_ref()).as_str(), board.jetpack_major()), ("R36.4.3", Some(6)));
}

#[test]
fn a_raspberry_pi_5() {
    let cpuinfo = arm(
        "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp",
        &[("0x41", "0xd0b", 4)],
    );
    let root = tree(&[
        ("/proc/device-tree/model", "Raspberry Pi 5 Model B Rev 1.0\0"),
        ("/proc/device-tree/compatible", "raspberrypi,5-model-b\0brcm,bcm2712\0"),
        ("/proc/cpuinfo", &cpuinfo),
        ("/sys/devices/system/cpu/online", "0-3\n"),
        ("/sys/devices/system/cpu/cpufreq/policy0/scaling_governor", "ondemand\n"),
        ("/sys/class/thermal/thermal_zone0/type", "cpu-thermal\n"),
        ("/sys/class/thermal/thermal_zone0/temp", "84650\n"),
        ("/sys/devices/platform/soc/soc:firmware/get_throttled", "50005\n"),
        ("/dev/dri/renderD128", ""),
        ("/sys/class/drm/renderD128/device/uevent", "DRIVER=v3d\nOF_NAME=v3d\n"),
    ]);
    let board = read(&root);
    assert_eq!(value(board.model.as_ref()), "Raspberry Pi 5 Model B Rev 1.0");
    assert_eq!(value(board.soc.as_ref()), "brcm,bcm2712");
    assert_eq!(kinds(&board), [("Cortex-A76", 4)]);
    assert_eq!(features(&board), "neon fp16 dotprod");
    let complaints = value(board.power.complaints.as_ref());
    assert_eq!(complaints, ["the supply's voltage is too low", "it is throttled"]);
    assert_eq!(board.accelerators[0].driver.as_deref(), Some("v3d"));
    assert_eq!(board.accelerators[0].kind, AcceleratorKind::OtherGpu);
    assert_eq!(board.memory.usable_bytes(), None);
}

#[test]
fn a_board_with_an_rk3588() {
    let cpuinfo = arm("fp asimd aes fphp asimdhp asimddp", &[("0x41", "0xd05", 4), ("0x41", "0xd0b", 4)]);
    let root = tree(&[
        ("/sys/firmware/devicetree/base/model", "Orange Pi 5\0"),
        ("/sys/firmware/devicetree/base/compatible", "xunlong,orangepi-5\0rockchip,rk3588s\0rockchip,rk3588\0"),
        ("/proc/cpuinfo", &cpuinfo),
        ("/sys/class/thermal/thermal_zone10/type", "npu-thermal\n"),
        ("/sys/class/thermal/thermal_zone10/temp", "40692\n"),
        ("/sys/class/thermal/thermal_zone2/type", "bigcore1-thermal\n"),
        ("/sys/class/thermal/thermal_zone2/temp", "41615\n"),
        ("/sys/devices/system/cpu/cpufreq/policy0/scaling_governor", "ondemand\n"),
        ("/sys/devices/system/cpu/cpufreq/policy4/scaling_governor", "performance\n"),
        ("/dev/dri/renderD128", ""),
        ("/sys/class/drm/renderD128/device/uevent", "DRIVER=panthor\n"),
        ("/dev/dri/renderD129", ""),
        ("/sys/class/drm/renderD129/device/uevent", "DRIVER=RKNPU\nOF_NAME=npu\n"),
        ("/sys/module/rknpu/version", "0.9.8\n"),
    ]);
    let board = read(&root);
    assert_eq!(board.model.as_ref().unwrap().source, "/sys/firmware/devicetree/base/model");
    assert!(board.is_compatible("rockchip,rk3588"));
    assert_eq!(kinds(&board), [("Cortex-A55", 4), ("Cortex-A76", 4)]);
    assert_eq!(board.processor.text(), "4 x Cortex-A55 + 4 x Cortex-A76");
    let names: Vec<_> = board.temperatures.iter().map(|zone| zone.name.as_str()).collect();
    assert_eq!(names, ["bigcore1-thermal", "npu-thermal"]);
    assert_eq!(value(board.power.governors.as_ref()), ["ondemand", "performance"]);
    let found: Vec<_> = board.accelerators.iter().map(|found| found.kind).collect();
    assert_eq!(found, [AcceleratorKind::OtherGpu, AcceleratorKind::RockchipNpu]);
    assert_eq!((board.drivers[0].name.as_str(), board.drivers[0].version.as_str()), ("rknpu", "0.9.8"));
}

#[test]
fn a_board_with_a_qcs6490() {
    let cpuinfo = arm("fp asimd asimdhp asimddp", &[("0x41", "0xd05", 4), ("0x41", "0xd41", 4)]);
    let root = tree(&[
        ("/proc/device-tree/model", "Qualcomm Technologies, Inc. Robotics RB3gen2\0"),
        ("/proc/device-tree/compatible", "qcom,qcs6490-rb3gen2\0qcom,qcm6490\0"),
        ("/sys/devices/soc0/family", "Snapdragon\n"),
        ("/sys/devices/soc0/machine", "QCS6490\n"),
        ("/sys/devices/soc0/soc_id", "497\n"),
        ("/proc/cpuinfo", &cpuinfo),
        ("/dev/fastrpc-cdsp", ""),
        ("/dev/adsprpc-smd", ""),
        ("/dev/kgsl-3d0", ""),
    ]);
    let board = read(&root);
    assert_eq!(value(board.soc.as_ref()), "Snapdragon QCS6490");
    assert_eq!(board.soc.as_ref().unwrap().source, "/sys/devices/soc0/family");
    assert!(board.is_compatible("qcom"));
    let found: Vec<_> = board.accelerators.iter().map(|found| found.kind).collect();
    assert_eq!(found, [AcceleratorKind::Hexagon, AcceleratorKind::Hexagon, AcceleratorKind::OtherGpu]);
}

#[test]
fn a_machine_with_an_intel_n100() {
    let core = "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: Intel(R) N100\nflags\t\t: fpu sse sse2 avx f16c fma avx2 avx_vnni\n\n";
    let root = tree(&[
        ("/sys/class/dmi/id/sys_vendor", "AZW\n"),
        ("/sys/class/dmi/id/product_name", "MINI S\n"),
        ("/proc/cpuinfo", &core.repeat(4)),
        ("/sys/devices/system/cpu/online", "0-3\n"),
        ("/sys/devices/system/cpu/present", "0-3\n"),
        ("/sys/firmware/acpi/platform_profile", "balanced\n"),
        ("/dev/dri/card0", ""),
        ("/dev/dri/renderD128", ""),
        ("/sys/class/drm/renderD128/device/uevent", "DRIVER=i915\nPCI_CLASS=30000\n"),
        ("/dev/accel/accel0", ""),
        ("/sys/class/accel/accel0/device/uevent", "DRIVER=intel_vpu\n"),
        ("/lib/x86_64-linux-gnu/libc.so.6", "\0\0GNU C Library (Debian GLIBC 2.36-9) stable release version 2.36.\nCopyright\0"),
    ]);
    let board = read(&root);
    assert_eq!(value(board.model.as_ref()), "AZW MINI S");
    assert_eq!(kinds(&board), [("Intel N100", 4)]);
    assert_eq!(features(&board), "avx2 fma f16c avx-vnni");
    assert!(board.processor.has("avx-vnni") && !board.processor.has("avx512"));
    assert_eq!(value(board.power.mode.as_ref()), "balanced");
    assert_eq!(value(board.libc.as_ref()), "glibc 2.36");
    let found: Vec<_> = board.accelerators.iter().map(|found| found.kind).collect();
    assert_eq!(found, [AcceleratorKind::IntelGpu, AcceleratorKind::IntelNpu]);
    let filled_in_by_nobody =
        tree(&[("/sys/class/dmi/id/product_name", "To Be Filled By O.E.M.\n"), ("/sys/class/dmi/id/board_name", "N100DC-ITX\n")]);
    assert_eq!(value(read(&filled_in_by_nobody).model.as_ref()), "N100DC-ITX");
}

const MACHINE: (&str, &str) = ("/proc/meminfo", "MemTotal: 16000000 kB\nMemAvailable: 12000000 kB\n");

#[test]
fn a_containers_limit_counts() {
    let second_version = tree(&[
        MACHINE,
        ("/proc/self/cgroup", "0::/\n"),
        ("/sys/fs/cgroup/memory.max", "2147483648\n"),
        ("/sys/fs/cgroup/memory.current", "700000000\n"),
        ("/sys/fs/cgroup/memory.stat", "anon 500000000\ninactive_file 200000000\n"),
        ("/sys/fs/cgroup/cpu.max", "150000 100000\n"),
        ("/sys/devices/system/cpu/online", "0-7\n"),
    ]);
    let board = read(&second_version);
    assert_eq!(board.memory.ceiling_bytes(), Some(2_147_483_648));
    assert_eq!(board.memory.usable_bytes(), Some(2_147_483_648 - 500_000_000));
    assert_eq!(board.memory.limit.as_ref().unwrap().source, "/sys/fs/cgroup/memory.max");
    assert_eq!((value(board.processor.quota.as_ref()), board.processor.usable_cores()), (1.5, 2));

    let first_version = tree(&[
        MACHINE,
        ("/proc/self/cgroup", "5:cpu,cpuacct:/docker/ab\n4:memory:/docker/ab\n0::/\n"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "1073741824\n"),
        ("/sys/fs/cgroup/memory/memory.usage_in_bytes", "300000000\n"),
        ("/sys/fs/cgroup/memory/memory.stat", "cache 1\ntotal_inactive_file 100000000\n"),
        ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "50000\n"),
        ("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
    ]);
    let board = read(&first_version);
    assert_eq!(board.memory.usable_bytes(), Some(1_073_741_824 - 200_000_000));
    assert_eq!((value(board.processor.quota.as_ref()), board.processor.usable_cores()), (0.5, 1));

    // A service within a slice: the tighter of the two counts, wherever it stands.
    let nested = tree(&[
        MACHINE,
        ("/proc/self/cgroup", "0::/system.slice/kiln.service\n"),
        ("/sys/fs/cgroup/system.slice/memory.max", "1000000000\n"),
        ("/sys/fs/cgroup/system.slice/kiln.service/memory.max", "3000000000\n"),
    ]);
    assert_eq!(read(&nested).memory.ceiling_bytes(), Some(1_000_000_000));

    let unlimited = tree(&[
        MACHINE,
        ("/proc/self/cgroup", "4:memory:/a\n0::/\n"),
        ("/sys/fs/cgroup/memory.max", "max\n"),
        ("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "9223372036854771712\n"),
        ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"),
        ("/sys/fs/cgroup/cpu.max", "max 100000\n"),
    ]);
    let board = read(&unlimited);
    assert_eq!((board.memory.limit.as_ref(), board.processor.quota.as_ref()), (None, None));
    assert_eq!(board.memory.usable_bytes(), Some(12_000_000 * 1024));
}

/// Every file that is looked at somewhere above.
const FILES: [&str; 30] = [
    "/proc/device-tree/model",
    "/proc/device-tree/compatible",
    "/sys/devices/soc0/family",
    "/sys/devices/soc0/machine",
    "/sys/devices/soc0/soc_id",
    "/etc/nv_tegra_release",
    "/var/lib/dpkg/status",
    "/etc/os-release",
    "/proc/sys/kernel/osrelease",
    "/lib/x86_64-linux-gnu/libc.so.6",
    "/proc/cpuinfo",
    "/sys/devices/system/cpu/online",
    "/sys/devices/system/cpu/present",
    "/proc/meminfo",
    "/proc/self/cgroup",
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory.current",
    "/sys/fs/cgroup/cpu.max",
    "/sys/class/thermal/thermal_zone0/type",
    "/sys/class/thermal/thermal_zone0/temp",
    "/sys/class/thermal/thermal_zone0/trip_point_0_type",
    "/sys/class/thermal/thermal_zone0/trip_point_0_temp",
    "/sys/devices/system/cpu/cpufreq/policy0/scaling_governor",
    "/var/lib/nvpmodel/status",
    "/etc/nvpmodel.conf",
    "/sys/devices/platform/soc/soc:firmware/get_throttled",
    "/sys/class/drm/renderD128/device/uevent",
    "/sys/module/nvidia/version",
    "/proc/driver/nvidia/version",
    "/sys/class/dmi/id/product_name",
];

/// What is known of a machine of which nothing can be believed.
fn knows_nothing(board: &Board, what: &str) {
    assert_eq!((&board.model, &board.compatible, &board.soc), (&None, &None, &None), "{what}");
    assert_eq!((&board.l4t, &board.jetpack, &board.system, &board.libc), (&None, &None, &None, &None), "{what}");
    assert_eq!((&board.processor.kinds, &board.processor.online, &board.processor.quota), (&None, &None, &None), "{what}");
    assert_eq!(board.memory, kiln::runtime::MachineMemory::default(), "{what}");
    assert!(board.temperatures.is_empty() && board.drivers.is_empty(), "{what}");
    assert_eq!(board.power, kiln::runtime::PowerMode::default(), "{what}");
    assert!(board.processor.usable_cores() >= 1);
    // Whatever is known can be told.
    assert!(!board.identity().is_empty());
    serde_json::to_string(board).unwrap();
}

#[test]
fn hostile_trees_are_facts_less_and_no_crash() {
    knows_nothing(&Board::read(Path::new("/nowhere/at/all")), "no tree");
    let contents: [(&str, Vec<u8>); 8] = [
        ("empty", Vec::new()),
        ("not text", vec![0xff; 5000]),
        ("zeros", vec![0; 5000]),
        ("controls", b"\x1b[2J\x07\x1b[31m\n".to_vec()),
        ("blank lines", b"\n\n\n\n".to_vec()),
        ("no end", b" ".repeat(3 << 20)),
        ("one long line", b"x".repeat(3 << 20)),
        ("colons", b":::::\n::\n".to_vec()),
    ];
    for (what, content) in contents {
        let root = tree(&[]);
        for file in FILES {
            let place = root.path().join(&file[1..]);
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            fs::write(place, &content).unwrap();
        }
        let board = read(&root);
        match what {
            // Colons are names as good as any; what is a number, a list or a limit is none.
            "colons" => {
                assert!(board.processor.online.is_none() && board.memory.total_bytes.is_none() && board.temperatures.is_empty())
            }
            _ => knows_nothing(&board, what),
        }
    }
}

#[test]
fn folders_pipes_and_huge_files_in_the_place_of_files() {
    let root = tree(&[]);
    for file in FILES {
        fs::create_dir_all(root.path().join(&file[1..])).unwrap();
    }
    knows_nothing(&read(&root), "folders");

    let root = tree(&[]);
    for file in FILES {
        let place = root.path().join(&file[1..]);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        // Sparse: it takes no space, and reading it whole would take all memory.
        fs::File::create(place).unwrap().set_len(1 << 40).unwrap();
    }
    knows_nothing(&read(&root), "huge files");

    let root = tree(&[]);
    let pipes = FILES.iter().filter(|file| {
        let place = root.path().join(&file[1..]);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        std::process::Command::new("mkfifo").arg(&place).status().is_ok_and(|status| status.success())
    });
    assert_eq!(pipes.count(), FILES.len());
    knows_nothing(&read(&root), "pipes");
}

#[test]
fn numbers_that_are_none() {
    let zone = "/sys/class/thermal/thermal_zone0/temp";
    for text in ["NaN", "inf", "-inf", "1e9", "99999999999999999999", "-274000", "200000", "0x40", "--5", "42000 "] {
        let board = read(&tree(&[(zone, text)]));
        assert_eq!(board.temperatures.len(), usize::from(text == "42000 "), "{text}");
    }
    for text in ["0-4294967295", "5-2", "a-b", "-", ",", "0-", "1,,2", "0-99999999999999999999999"] {
        let board = read(&tree(&[("/sys/devices/system/cpu/online", text)]));
        assert_eq!(board.processor.online, None, "{text}");
    }
    assert_eq!(value(read(&tree(&[("/sys/devices/system/cpu/online", "0-3,6,8-9")])).processor.online.as_ref()), 7);
    for text in ["MemTotal: NaN kB", "MemTotal: -1 kB", "MemTotal: 18446744073709551615 kB", "MemTotal: 12 pages", "MemTotal"] {
        assert_eq!(read(&tree(&[("/proc/meminfo", text)])).memory.total_bytes, None, "{text}");
    }
    for text in ["0 100000", "100000 0", "-1 100000", "NaN NaN", "100000"] {
        assert_eq!(read(&tree(&[("/sys/fs/cgroup/cpu.max", text)])).processor.quota, None, "{text}");
    }
    let out = tree(&[("/proc/self/cgroup", "0::/../../../../etc\n"), ("/etc/memory.max", "5\n")]);
    assert_eq!(read(&out).memory.limit, None, "a group's path leads nowhere else");
}

#[test]
fn this_machine_tells_of_itself() {
    let board = Board::read(Path::new("/"));
    assert!(board.memory.usable_bytes().unwrap() > 1 << 20);
    assert!(board.kernel.is_some() && board.processor.kinds.is_some());
    assert!(board.memory.usable_bytes() <= board.memory.ceiling_bytes());
}
