"""The measurements as the table of BENCHMARKS.md."""

import platform
import statistics
from pathlib import Path

ROLES = {"text_encoder": "text", "unet": "UNet", "vae_decoder": "decoder"}


def machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    flags = set(next((line for line in lines if line.startswith(("flags", "Features"))), "").split())
    widest = next((name for flag, name in (("avx512f", "AVX-512"), ("avx2", "AVX2"), ("asimd", "NEON")) if flag in flags), "no vectors")
    kibibytes = int(Path("/proc/meminfo").read_text().split()[1])
    return f"{sum(line.startswith('processor') for line in lines)} cores of {model} ({widest}), {kibibytes / 2**20:.0f} GiB"


def seconds(milliseconds: float) -> str:
    return f"{milliseconds / 1000:.2f} s" if milliseconds >= 1000 else f"{milliseconds:.1f} ms"


def gigabytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def median(values: list) -> float:
    return statistics.median(values) if values else 0.0


def table(measured: dict) -> str:
    """One bundle's table. `measured` is what run.py gathers, see `measure` there."""
    engines = {name: found for name, found in measured["engines"].items() if "absent" not in found}
    heads = ["engine", *ROLES.values(), "picture", "of the peak", "start to file", "anonymous", "file-backed"]
    lines = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for name, found in engines.items():
        versions = ", ".join(f"{package} {version}" for package, version in found["versions"].items())
        cells = [f"{name} ({versions})"]
        for role in ROLES:
            cells.append(cell(median(times(found, role)), found["ratios"].get(role), name) if times(found, role) else "–")
        cells.append(cell(median([picture["total_ms"] for picture in found["pictures"]]), found["ratios"].get("picture"), name))
        cells.append(", ".join(share(measured, found, role) for role in ROLES))
        if found["cold"]:
            took = median([spent for spent, _ in found["cold"]])
            cells.append(cell(took * 1000, found["ratios"].get("cold"), name))
            cells += [gigabytes(max(peak.get(kind, 0) for _, peak in found["cold"])) for kind in ("anonymous", "file")]
        else:
            cells += ["", "", ""]
        lines.append("| " + " | ".join(cells) + " |")
    for name, found in measured["engines"].items():
        if "absent" in found:
            lines.append(f"\n{name}: {found['absent']}")
    return "\n".join(lines)


def cell(milliseconds: float, ratio, name: str) -> str:
    """A time, and Kiln's in parts of it."""
    told = seconds(milliseconds)
    return told if name == "kiln" or ratio is None else f"{told} (Kiln {ratio:.2f})"


def times(found: dict, role: str) -> list:
    return [picture["components"][role] for picture in found["pictures"] if picture["components"].get(role)]


def share(measured: dict, found: dict, role: str) -> str:
    """What a component reaches of the peak, by the work that it has."""
    taken_s = median(times(found, role)) / 1000
    return f"{measured['work'][role] / taken_s / (measured['peak'] * 1e9) * 100:.0f} %" if taken_s else "–"


def text(measured: dict) -> str:
    """A bundle's section."""
    found = measured["engines"].get("kiln", {})
    lines = [
        f"### {measured['name']}",
        "",
        f"{measured['what'][0].upper()}{measured['what'][1:]}; {measured['side']}×{measured['side']}, {measured['steps']} steps without guidance. {machine()}, "
        f"{measured['threads']} threads; matrix products reach {measured['peak']:.0f} GFLOP/s in f32. Load averages {measured['load'][0]:.1f} before and "
        f"{measured['load'][1]:.1f} after, {measured['date']}.",
        "",
        table(measured),
        "",
    ]
    outside = [picture["total_ms"] - sum(picture["components"].values()) for picture in found.get("pictures", [])]
    if outside:
        part = median(outside) / median([picture["total_ms"] for picture in found["pictures"]]) * 100
        lines.append(f"Outside ONNX Runtime Kiln takes {seconds(median(outside))}, {part:.2f} % of a picture.")
    if measured.get("agreement"):
        told = ", ".join(f"{name} within {steps}/255" for name, steps in measured["agreement"].items())
        lines.append(f"The same seed's picture as Kiln's: {told}.")
    return "\n".join(lines) + "\n"
