//! A provider with the options that a person gave it.

use std::fmt;
use std::path::Path;

use super::{DeviceMemory, Kept, Provider};

/// A provider and its options, checked against what it takes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProviderSetup {
    provider: Provider,
    options: Vec<(String, String)>,
}

impl ProviderSetup {
    /// A provider without options.
    #[must_use]
    pub fn new(provider: Provider) -> Self {
        Self { provider, options: Vec::new() }
    }

    /// The provider.
    #[must_use]
    pub fn provider(&self) -> Provider {
        self.provider
    }

    /// Its options, in the order in which they were given.
    #[must_use]
    pub fn options(&self) -> &[(String, String)] {
        &self.options
    }

    /// Adds an option.
    ///
    /// # Errors
    /// In a few words: the provider has no such key (the message names the nearest), the key was given before, or it does not take
    /// the value.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let facts = self.provider.facts();
        let Some(known) = facts.options.iter().find(|known| known.key.eq_ignore_ascii_case(key)) else {
            let keys: Vec<&str> = facts.options.iter().map(|option| option.key).collect();
            return Err(match nearest(key, &keys) {
                _ if keys.is_empty() => format!("{} takes no options, and was given `{key}`", self.provider),
                Some(near) => format!("{} has no option `{key}`; the nearest is `{near}`", self.provider),
                None => format!("{} has no option `{key}`, expected one of {}", self.provider, keys.join(", ")),
            });
        };
        if self.options.iter().any(|(given, _)| given == known.key) {
            return Err(format!("{}: `{}` is given twice", self.provider, known.key));
        }
        let value = known.check(value, facts.switch).map_err(|why| format!("{}: `{}` {why}", self.provider, known.key))?;
        self.options.push((known.key.to_owned(), value));
        Ok(())
    }

    /// Has it keep what it makes in `folder`, unless an option says where; nothing for a provider that keeps nothing in folders.
    pub fn keep_in(&mut self, folder: &Path) {
        let Kept::InFolder(key) = self.provider.facts().kept else { return };
        if self.get(key).is_some() {
            return;
        }
        let folder = folder.display().to_string();
        // TensorRT wants each of its caches switched on beside being told the folder.
        let wanted: &[(&str, &str)] = match self.provider {
            Provider::TensorRt => &[
                ("trt_engine_cache_enable", "1"),
                ("trt_engine_cache_path", &folder),
                ("trt_timing_cache_enable", "1"),
                ("trt_timing_cache_path", &folder),
            ],
            _ => &[(key, &folder)],
        };
        for (key, value) in wanted.iter().filter(|(key, _)| self.get(key).is_none()).collect::<Vec<_>>() {
            self.options.push(((*key).to_owned(), (*value).to_owned()));
        }
    }

    /// The provider's memory with the device's number, and how small networks are given to it; `None` where it has none that is known, or
    /// records its kernels.
    pub(in crate::runtime) fn keeps(&self) -> Option<(&'static str, i32, Self)> {
        let DeviceMemory { name, by, records_by } = self.provider.facts().keeps?;
        if self.get(records_by) == Some(self.provider.facts().switch[1]) {
            return None;
        }
        let setup = match by == self.provider {
            true => self.clone(),
            false => Self { provider: by, options: self.options.iter().filter(|(key, _)| key == "device_id").cloned().collect() },
        };
        let device = self.get("device_id").and_then(|id| id.parse().ok()).unwrap_or(0);
        Some((name, device, setup))
    }

    /// The value of an option.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.options.iter().find(|(given, _)| given == key).map(|(_, value)| value.as_str())
    }
}

impl fmt::Display for ProviderSetup {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.provider)?;
        for (index, (key, value)) in self.options.iter().enumerate() {
            write!(formatter, "{}{key}={}", if index == 0 { ':' } else { ',' }, value.replace(',', "\\,"))?;
        }
        Ok(())
    }
}

/// The word of `words` that is nearest to `word`, where one is near: by the letters that would have to change.
pub(super) fn nearest<'w>(word: &str, words: &[&'w str]) -> Option<&'w str> {
    let word = word.to_ascii_lowercase();
    let of = |known: &str| {
        let known = known.to_ascii_lowercase();
        // `fp16` means `trt_fp16_enable`.
        if word.len() >= 3 && known.contains(&word) { 1 } else { strsim::levenshtein(&word, &known) }
    };
    let (known, distance) = words.iter().map(|known| (*known, of(known))).min_by_key(|(_, distance)| *distance)?;
    (distance <= 1 + word.len() / 3).then_some(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_told_its_neighbour() {
        let mut setup = ProviderSetup::new(Provider::TensorRt);
        assert!(
            setup
                .set("trt_fp16_enabel", "1")
                .unwrap_err()
                .ends_with("has no option `trt_fp16_enabel`; the nearest is `trt_fp16_enable`")
        );
        assert!(setup.set("fp16", "1").unwrap_err().ends_with("`trt_fp16_enable`"));
        assert!(setup.set("colour", "red").unwrap_err().contains("expected one of device_id"));
        setup.set("TRT_FP16_ENABLE", "true").unwrap();
        assert_eq!(setup.options(), [("trt_fp16_enable".to_owned(), "1".to_owned())]);
        assert!(setup.set("trt_fp16_enable", "0").unwrap_err().contains("is given twice"));
        assert!(setup.set("trt_builder_optimization_level", "NaN").unwrap_err().contains("expected a whole number from 0 to 5"));
        assert_eq!(setup.to_string(), "tensorrt:trt_fp16_enable=1");
        assert!(ProviderSetup::new(Provider::Cpu).set("threads", "1").unwrap_err().contains("cpu takes no options"));
    }
}
