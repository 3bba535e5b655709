//! Lays the pinned ONNX Runtime library beside the binary, so that a fresh checkout runs without further set-up.
//!
//! Nothing here can fail a build: where the library cannot be had, the build warns, and the program says at run time
//! where it looked and what to do. `KILN_OFFLINE=1` fetches nothing.

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const TABLE: &str = "cross/onnxruntime.txt";
const LIBRARY: &str = "libonnxruntime.so";

/// One row of `cross/onnxruntime.txt`.
struct Pinned {
    package: String,
    version: String,
    platform: String,
    library: String,
    sha256: String,
}

fn main() {
    println!("cargo:rerun-if-changed={TABLE}");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=KILN_OFFLINE");
    println!("cargo:rerun-if-env-changed=ORT_DYLIB_PATH");
    if let Err(error) = lay_library() {
        println!("cargo:warning=no ONNX Runtime laid beside the binary: {error}");
        println!("cargo:warning=give one at run time with --runtime FILE or ORT_DYLIB_PATH");
    }
}

fn lay_library() -> Result<(), Box<dyn Error>> {
    if env::var_os("ORT_DYLIB_PATH").is_some_and(|path| Path::new(&path).is_file()) {
        return Ok(());
    }
    let target = env::var("TARGET")?;
    let pinned = pinned(&target)?.ok_or_else(|| format!("{TABLE} has no row for {target}"))?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // OUT_DIR is <target>/<profile>/build/<package>-<hash>/out.
    let profile = out.ancestors().nth(3).ok_or("OUT_DIR is not where cargo puts it")?;
    let laid = profile.join(LIBRARY);
    let stamp = profile.join("libonnxruntime.version");
    // A removed library brings this script back on the next build.
    println!("cargo:rerun-if-changed={}", laid.display());

    let wanted = format!("{} {} {}", pinned.package, pinned.version, pinned.sha256);
    if !(laid.is_file() && fs::read_to_string(&stamp).is_ok_and(|found| found == wanted)) {
        if env::var_os("KILN_OFFLINE").is_some_and(|value| !value.is_empty() && value != "0") {
            return Err("KILN_OFFLINE is set, so nothing was fetched".into());
        }
        let extracted = fetch(&pinned, &out.join("wheel"))?;
        // Renamed into place: a build that is killed half-way leaves no half library.
        let partial = profile.join(format!("{LIBRARY}.partial"));
        fs::copy(&extracted, &partial)?;
        // Cargo runs this script again when a file it watches is younger than the last run, as one made by that run is.
        fs::File::options().append(true).open(&partial)?.set_modified(fs::metadata("build.rs")?.modified()?)?;
        fs::rename(&partial, &laid)?;
        fs::write(&stamp, wanted)?;
        fs::remove_dir_all(out.join("wheel"))?;
    }
    // Test and example binaries run from folders of their own, and look beside themselves like any other.
    for folder in ["deps", "examples"] {
        let link = profile.join(folder).join(LIBRARY);
        if !link.exists() && link.parent().is_some_and(Path::is_dir) {
            link_or_copy(&laid, &link)?;
        }
    }
    Ok(())
}

/// Reads the row for `target` out of the table.
fn pinned(target: &str) -> Result<Option<Pinned>, Box<dyn Error>> {
    let table = fs::read_to_string(TABLE)?;
    for line in table.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let &[triple, package, version, platform, library, sha256] = fields.as_slice() else {
            return Err(format!("{TABLE}: a row has {} fields, expected 6: {line}", fields.len()).into());
        };
        if triple == target {
            return Ok(Some(Pinned {
                package: package.into(),
                version: version.into(),
                platform: platform.into(),
                library: library.into(),
                sha256: sha256.into(),
            }));
        }
    }
    Ok(None)
}

/// Downloads the pinned wheel into `folder` with pip, which checks its hash, and returns the library inside.
fn fetch(pinned: &Pinned, folder: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder)?;
    let requirements = folder.join("requirements.txt");
    fs::write(&requirements, format!("{}=={} --hash=sha256:{}\n", pinned.package, pinned.version, pinned.sha256))?;
    let python = ["python3", "python"]
        .into_iter()
        .find(|python| Command::new(python).args(["-m", "pip", "--version"]).output().is_ok_and(|output| output.status.success()))
        .ok_or("no python3 with pip on the PATH to fetch it with (on Debian: apt-get install python3-pip)")?;
    let output = Command::new(python)
        .args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes"])
        .args(["--disable-pip-version-check", "--implementation", "cp", "--python-version", "312", "--abi", "cp312"])
        .args(["--platform", &pinned.platform])
        .arg("--dest")
        .arg(folder)
        .arg("--requirement")
        .arg(&requirements)
        .output()?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr);
        return Err(format!("pip download failed: {}", message.lines().last().unwrap_or("no message").trim()).into());
    }
    let wheel = fs::read_dir(folder)?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .ok_or("pip download left no wheel")?;
    let unpacked = Command::new(python).args(["-m", "zipfile", "-e"]).arg(&wheel).arg(folder).output()?;
    if !unpacked.status.success() {
        return Err(format!("the wheel does not unpack: {}", String::from_utf8_lossy(&unpacked.stderr).trim()).into());
    }
    Ok(folder.join(&pinned.library))
}

#[cfg(unix)]
fn link_or_copy(library: &Path, link: &Path) -> Result<(), Box<dyn Error>> {
    let _ = fs::remove_file(link);
    // Relative, so that the target folder can be moved.
    let name = library.file_name().ok_or("the library has no file name")?;
    Ok(std::os::unix::fs::symlink(Path::new("..").join(name), link)?)
}

#[cfg(not(unix))]
fn link_or_copy(library: &Path, link: &Path) -> Result<(), Box<dyn Error>> {
    fs::copy(library, link).map(|_| ()).map_err(Into::into)
}
