//! What a bundle's components cost on this device, as `kiln tune` measured it, and the file in which it is kept.
//!
//! A file belongs to one bundle, one ONNX Runtime and one device. It lies in the user's cache and may be of anybody's making, so it
//! is read within bounds, and one that is no longer true is told of rather than believed.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::{MeasurementKey, Memory};
use crate::output;

/// The layout of the file; another number is another layout.
pub const MEASUREMENTS_SCHEMA: u32 = 4;
/// A whole tuning has some hundred rows of some hundred bytes.
const LARGEST_FILE_BYTES: u64 = 4 << 20;
/// Names in the file are short.
const LONGEST_NAME: usize = 512;

/// What was measured of one component in one configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measurement {
    /// The component's role, such as `unet`.
    pub role: String,
    /// The provider that ran it, such as `cpu`.
    pub provider: String,
    /// The element type of its weights, such as `f32`.
    pub precision: String,
    /// Threads within one operator.
    pub threads: usize,
    /// Width of the picture in pixels.
    pub width: u32,
    /// Height of the picture in pixels.
    pub height: u32,
    /// Rows in one call.
    pub batch: usize,
    /// Opening the network, in milliseconds: the least of some times, since whatever else runs only adds to it.
    pub load_ms: f64,
    /// The first call, in milliseconds; what is built or fetched at first use makes it longer than the others.
    pub first_run_ms: f64,
    /// One call, in milliseconds: the median of `runs` after warming up.
    pub run_ms: f64,
    /// Calls that the median is of.
    pub runs: usize,
    /// The most that the process held beyond what it held before the network was opened, in bytes; `None` where the system does
    /// not tell.
    pub peak_memory_bytes: Option<u64>,
    /// What the process held after the last call beyond what it held before the network was opened, in bytes.
    pub resident_bytes: Option<u64>,
}

/// What a person would like to know the cost of; what is `None` may be anything.
#[derive(Debug, Clone, Default)]
pub struct Wanted<'a> {
    /// The component's role.
    pub role: &'a str,
    /// The provider.
    pub provider: Option<&'a str>,
    /// The element type of the weights.
    pub precision: Option<&'a str>,
    /// Threads within one operator.
    pub threads: Option<usize>,
    /// Width and height of the picture in pixels.
    pub size: Option<(u32, u32)>,
    /// Rows in one call.
    pub batch: Option<usize>,
}

impl Wanted<'_> {
    fn is(&self, found: &Measurement) -> bool {
        found.role == self.role
            && self.provider.is_none_or(|provider| provider == found.provider)
            && self.precision.is_none_or(|precision| precision == found.precision)
            && self.threads.is_none_or(|threads| threads == found.threads)
            && self.size.is_none_or(|size| size == (found.width, found.height))
            && self.batch.is_none_or(|batch| batch == found.batch)
    }
}

/// What a process takes beyond its networks' time to make a whole picture, in milliseconds; `None` where that was not measured.
///
/// Networks that stay are opened beside each other and disturb one another; those that are dropped after use are not, but are handed back.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Around {
    /// With networks that stay.
    pub normal_ms: Option<f64>,
    /// With networks that are dropped after use.
    pub low_ms: Option<f64>,
}

impl Around {
    /// What was measured with `memory`.
    #[must_use]
    pub fn of(&self, memory: Memory) -> Option<f64> {
        match memory {
            Memory::Normal => self.normal_ms,
            Memory::Low => self.low_ms,
        }
    }

    /// Where what was measured with `memory` stands.
    pub fn of_mut(&mut self, memory: Memory) -> &mut Option<f64> {
        match memory {
            Memory::Normal => &mut self.normal_ms,
            Memory::Low => &mut self.low_ms,
        }
    }

    /// What `self` lacks, from `other`.
    fn or(self, other: Self) -> Self {
        Self { normal_ms: self.normal_ms.or(other.normal_ms), low_ms: self.low_ms.or(other.low_ms) }
    }
}

/// All that was measured under one key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measurements {
    /// [`MEASUREMENTS_SCHEMA`].
    pub schema: u32,
    /// What they belong to.
    pub key: MeasurementKey,
    /// What the process held with ONNX Runtime loaded and no network opened, in bytes.
    pub base_bytes: Option<u64>,
    /// What a process takes beyond its networks' time to make a whole picture.
    pub around: Around,
    /// One row for each configuration.
    pub rows: Vec<Measurement>,
}

impl Measurements {
    /// None yet.
    #[must_use]
    pub fn new(key: MeasurementKey) -> Self {
        Self { schema: MEASUREMENTS_SCHEMA, key, base_bytes: None, around: Around::default(), rows: Vec::new() }
    }

    /// Reads the measurements of `key` from `path`; `None` when there is no such file.
    ///
    /// # Errors
    /// The file cannot be read, is too large, is no JSON of this layout, holds what is no number of its kind, or belongs to another
    /// bundle, runtime or device.
    pub fn load(path: &Path, key: &MeasurementKey) -> Result<Option<Self>> {
        Self::read(path, key).with_context(|| format!("measurements {}", path.display()))
    }

    fn read(path: &Path, key: &MeasurementKey) -> Result<Option<Self>> {
        let metadata = match std::fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // A pipe in its place would be waited for without end.
        ensure!(metadata.is_file(), "is not a file");
        let mut bytes = Vec::new();
        std::fs::File::open(path)?.take(LARGEST_FILE_BYTES + 1).read_to_end(&mut bytes)?;
        ensure!(bytes.len() as u64 <= LARGEST_FILE_BYTES, "is larger than {LARGEST_FILE_BYTES} bytes");
        let value: serde_json::Value = serde_json::from_slice(&bytes).context("is not JSON")?;
        let schema = value.get("schema").and_then(serde_json::Value::as_u64);
        if schema != Some(u64::from(MEASUREMENTS_SCHEMA)) {
            let found = schema.map_or_else(|| "not said".to_owned(), |schema| schema.to_string());
            bail!("its `schema` is {found}, expected {MEASUREMENTS_SCHEMA}");
        }
        let read: Self = serde_json::from_value(value)?;
        read.check()?;
        for (what, found, expected) in [
            ("bundle", &read.key.bundle, &key.bundle),
            ("ONNX Runtime", &read.key.runtime, &key.runtime),
            ("device", &read.key.device, &key.device),
        ] {
            ensure!(found == expected, "is of another {what}: {found}, expected {expected}");
        }
        Ok(Some(read))
    }

    /// Whether the numbers are of their kind.
    fn check(&self) -> Result<()> {
        for (name, value) in [("normal_ms", self.around.normal_ms), ("low_ms", self.around.low_ms)] {
            let value = value.unwrap_or(0.0);
            ensure!(value.is_finite() && value >= 0.0, "`around` `{name}` is {value}, expected a time");
        }
        for (index, row) in self.rows.iter().enumerate() {
            let check = || -> Result<()> {
                for (name, value) in [("role", &row.role), ("provider", &row.provider), ("precision", &row.precision)] {
                    ensure!(!value.is_empty() && value.len() <= LONGEST_NAME, "`{name}` is empty or too long");
                }
                for (name, value) in [("load_ms", row.load_ms), ("first_run_ms", row.first_run_ms), ("run_ms", row.run_ms)] {
                    ensure!(value.is_finite() && value >= 0.0, "`{name}` is {value}, expected a time");
                }
                for (name, value) in [("threads", row.threads), ("batch", row.batch), ("runs", row.runs)] {
                    ensure!((1..=1 << 16).contains(&value), "`{name}` is {value}, expected 1 to 65536");
                }
                for (name, value) in [("width", row.width), ("height", row.height)] {
                    ensure!((1..=1 << 16).contains(&value), "`{name}` is {value}, expected 1 to 65536");
                }
                Ok(())
            };
            check().with_context(|| format!("row {}", index + 1))?;
        }
        Ok(())
    }

    /// Writes the measurements to `path` whole or not at all, and makes its folders.
    ///
    /// # Errors
    /// The folders cannot be made, or the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).with_context(|| format!("measurements {}", path.display()))?;
        }
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        output::save(&text, path)
    }

    /// Adds `row` to the measurements of this key in `path`, among what other processes added meanwhile, and keeps all of it.
    ///
    /// # Errors
    /// As [`Measurements::save`].
    pub fn add(&mut self, row: Measurement, base_bytes: Option<u64>, path: &Path) -> Result<()> {
        self.merge(path, |all| {
            all.base_bytes = all.base_bytes.max(base_bytes);
            all.put(row);
        })
    }

    /// Adds what a whole picture takes beyond its networks' time, as [`Measurements::add`] adds a row.
    ///
    /// # Errors
    /// As [`Measurements::save`].
    pub fn add_around(&mut self, around: Around, path: &Path) -> Result<()> {
        self.merge(path, |all| all.around = around.or(all.around))
    }

    /// Takes over what other processes added to `path` meanwhile, makes `change`, and keeps all of it.
    fn merge(&mut self, path: &Path, change: impl FnOnce(&mut Self)) -> Result<()> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).with_context(|| format!("measurements {}", path.display()))?;
        // The folder is locked, since the file is replaced as a whole; the lock ends with `lock`, or with this process.
        let lock = std::fs::File::open(folder).and_then(|folder| folder.lock().map(|()| folder));
        if let Err(error) = &lock {
            log::debug!("{}: cannot be locked: {error}", folder.display());
        }
        // What is not to be believed was told of when it was first read.
        if let Ok(Some(others)) = Self::load(path, &self.key) {
            self.base_bytes = self.base_bytes.max(others.base_bytes);
            self.around = others.around.or(self.around);
            others.rows.into_iter().for_each(|row| self.put(row));
        }
        change(self);
        self.save(path)
    }

    /// Adds `row`, in the place of one of the same configuration.
    pub fn put(&mut self, row: Measurement) {
        let same = Wanted {
            role: &row.role,
            provider: Some(&row.provider),
            precision: Some(&row.precision),
            threads: Some(row.threads),
            size: Some((row.width, row.height)),
            batch: Some(row.batch),
        };
        self.rows.retain(|found| !same.is(found));
        self.rows.push(row);
    }

    /// The quickest of the rows that are `wanted`.
    #[must_use]
    pub fn find(&self, wanted: &Wanted<'_>) -> Option<&Measurement> {
        self.rows.iter().filter(|row| wanted.is(row)).min_by(|left, right| left.run_ms.total_cmp(&right.run_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> MeasurementKey {
        MeasurementKey { bundle: "ab".repeat(32), runtime: "1.31.1".into(), device: "a board, 4 cores".into() }
    }

    fn row(threads: usize, run_ms: f64) -> Measurement {
        Measurement {
            role: "unet".into(),
            provider: "cpu".into(),
            precision: "f32".into(),
            threads,
            width: 64,
            height: 64,
            batch: 1,
            load_ms: 20.0,
            first_run_ms: 30.0,
            run_ms,
            runs: 5,
            peak_memory_bytes: Some(2_000_000),
            resident_bytes: Some(1_000_000),
        }
    }

    #[test]
    fn what_was_saved_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = key().file(folder.path());
        assert!(Measurements::load(&path, &key()).unwrap().is_none());
        assert!(!MeasurementKey::any(folder.path(), &key().bundle));
        let mut measured = Measurements::new(key());
        measured.put(row(1, 10.0));
        measured.put(row(2, 6.0));
        measured.put(row(1, 11.0));
        measured.save(&path).unwrap();
        assert!(MeasurementKey::any(folder.path(), &key().bundle) && !MeasurementKey::any(folder.path(), &"cd".repeat(32)));
        let read = Measurements::load(&path, &key()).unwrap().unwrap();
        assert_eq!(read, measured);
        assert_eq!(read.rows.len(), 2, "a configuration has one row");
        assert_eq!(read.find(&Wanted { role: "unet", ..Wanted::default() }).unwrap().threads, 2);
        assert_eq!(read.find(&Wanted { role: "unet", threads: Some(1), ..Wanted::default() }).unwrap().run_ms, 11.0);
        assert!(read.find(&Wanted { role: "unet", size: Some((32, 64)), ..Wanted::default() }).is_none());
        assert!(read.find(&Wanted { role: "vae_decoder", ..Wanted::default() }).is_none());
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no half file stays");
    }

    #[test]
    fn rows_that_several_add_at_once_are_all_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("measured.json");
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let path = &path;
                scope.spawn(move || {
                    let mut mine = Measurements::new(key());
                    for count in 0..10 {
                        mine.add(row(1 + writer * 10 + count, 5.0), Some(writer as u64), path).unwrap();
                    }
                });
            }
        });
        let read = Measurements::load(&path, &key()).unwrap().unwrap();
        assert_eq!((read.rows.len(), read.base_bytes), (40, Some(3)));
    }

    #[test]
    fn a_file_that_is_not_true_is_told_of() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("measured.json");
        let mut measured = Measurements::new(key());
        measured.put(row(1, 10.0));
        measured.save(&path).unwrap();
        let good: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let changed = |pointer: &str, to: serde_json::Value| {
            let mut value = good.clone();
            *value.pointer_mut(pointer).unwrap() = to;
            value.to_string().into_bytes()
        };
        let cases: [(Vec<u8>, &str); 13] = [
            (Vec::new(), "is not JSON"),
            (vec![0xff; 100], "is not JSON"),
            (b"[".repeat(100_000), "is not JSON"),
            (vec![b' '; LARGEST_FILE_BYTES as usize + 1], "is larger than"),
            (b"{}".to_vec(), "its `schema` is not said, expected 4"),
            (changed("/schema", 3.into()), "its `schema` is 3, expected 4"),
            (changed("/key/bundle", "cd".into()), "is of another bundle: cd"),
            (changed("/key/runtime", "1.22.0".into()), "is of another ONNX Runtime: 1.22.0, expected 1.31.1"),
            (changed("/around/low_ms", (-1.0).into()), "`around` `low_ms` is -1, expected a time"),
            (changed("/rows/0/run_ms", (-1.0).into()), "row 1: `run_ms` is -1, expected a time"),
            (changed("/rows/0/run_ms", serde_json::Value::Null), "invalid type: null"),
            (changed("/rows/0/threads", 0.into()), "`threads` is 0"),
            (changed("/rows/0/role", "".into()), "`role` is empty"),
        ];
        for (bytes, part) in cases {
            std::fs::write(&path, bytes).unwrap();
            let error = format!("{:#}", Measurements::load(&path, &key()).unwrap_err());
            assert!(error.contains("measured.json") && error.contains(part), "{error} lacks {part:?}");
        }
        let error = format!("{:#}", Measurements::load(folder.path(), &key()).unwrap_err());
        assert!(error.contains("is not a file"), "{error}");
    }
}
