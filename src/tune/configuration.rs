//! Which configurations of a bundle are worth measuring on a device.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::bundle::{Bundle, Component};
use crate::plan::Wanted;

/// One way in which one component can be run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Configuration {
    /// The component's role, such as `unet`.
    pub role: String,
    /// The provider's name, such as `cpu`.
    pub provider: String,
    /// The element type of the weights, such as `f32`.
    pub precision: String,
    /// Threads within one operator.
    pub threads: usize,
    /// Width of the picture in pixels.
    pub width: u32,
    /// Height of the picture in pixels.
    pub height: u32,
    /// Rows in one call.
    pub batch: usize,
}

impl Configuration {
    /// What finds this configuration among measurements.
    #[must_use]
    pub fn wanted(&self) -> Wanted<'_> {
        Wanted {
            role: &self.role,
            provider: Some(&self.provider),
            precision: Some(&self.precision),
            threads: Some(self.threads),
            size: Some((self.width, self.height)),
            batch: Some(self.batch),
        }
    }
}

/// Every configuration of `bundle` that is worth measuring.
///
/// * `providers`: names of those that run here
/// * `cores`: that this process has the time of
///
/// Thread counts are the powers of two and all cores, of the processor alone: on other providers threads prepare and do not compute.
/// A component whose sides are open is measured at the bundle's own size, at half of it and at half as much again; a denoiser also
/// with two rows in a call, which guidance asks for.
#[must_use]
pub fn configurations(bundle: &Bundle, providers: &[String], cores: usize) -> Vec<Configuration> {
    let mut found = Vec::new();
    for (role, component) in &bundle.components {
        let own_size = bundle.default_size();
        // A denoiser of clips sees all frames in one call, which takes minutes at larger sizes.
        let is_long = *role == bundle.denoiser() && bundle.makes_clips();
        let sizes = if has_open_sides(component) && !is_long && bundle.geometry.fixed_size.is_none() {
            sizes(own_size, bundle.geometry.side_unit)
        } else {
            vec![own_size]
        };
        let fixed_batch = component.header.inputs.first().and_then(|port| port.shape.first().copied().flatten());
        for provider in providers {
            for precision in component.precisions() {
                for (width, height) in &sizes {
                    let mut add = |threads, batch| {
                        found.push(Configuration {
                            role: role.to_string(),
                            provider: provider.clone(),
                            precision: precision.clone(),
                            threads,
                            width: *width,
                            height: *height,
                            batch,
                        });
                    };
                    for threads in if provider == "cpu" { thread_counts(cores) } else { vec![cores.max(1)] } {
                        add(threads, fixed_batch.unwrap_or(1));
                    }
                    if *role == bundle.denoiser() && fixed_batch.is_none() {
                        add(cores.max(1), 2);
                    }
                }
            }
        }
    }
    found
}

/// 1, 2, 4 … below `cores`, and `cores`.
fn thread_counts(cores: usize) -> Vec<usize> {
    let cores = cores.max(1);
    let powers = std::iter::successors(Some(1_usize), |count| count.checked_mul(2)).take_while(|count| *count < cores);
    powers.chain([cores]).collect()
}

/// Whether pictures or latents of other sides go through it.
fn has_open_sides(component: &Component) -> bool {
    // Of a clip the frames stand before the sides.
    component.header.inputs.iter().any(|port| {
        matches!(port.shape.as_slice(), [_, _, height, width] | [_, _, _, height, width] if height.is_none() || width.is_none())
    })
}

/// `own`, half of it and half as much again, on sides that are multiples of `unit`.
fn sizes(own: (u32, u32), unit: u32) -> Vec<(u32, u32)> {
    let unit = unit.max(1);
    let scaled = |side: u32, by: f64| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "sides are below 2^14")]
        let units = (f64::from(side) * by / f64::from(unit)).round() as u32;
        units.max(1) * unit
    };
    let sizes: BTreeSet<(u32, u32)> = [0.5, 1.5].iter().map(|by| (scaled(own.0, *by), scaled(own.1, *by))).chain([own]).collect();
    sizes.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn thread_counts_end_with_all_cores() {
        for (cores, expected) in [(0, vec![1]), (1, vec![1]), (2, vec![1, 2]), (6, vec![1, 2, 4, 6]), (8, vec![1, 2, 4, 8])] {
            assert_eq!(thread_counts(cores), expected);
        }
    }

    #[test]
    fn sizes_are_multiples_of_what_the_model_takes() {
        assert_eq!(sizes((512, 512), 64), [(256, 256), (512, 512), (768, 768)]);
        assert_eq!(sizes((64, 96), 16), [(32, 48), (64, 96), (96, 144)]);
        assert_eq!(sizes((64, 64), 64), [(64, 64), (128, 128)], "a side is at least one unit");
    }

    #[test]
    fn a_bundle_with_open_sides_is_measured_at_three_sizes_and_a_fixed_one_at_its_own() {
        let open = |name: &str| Bundle::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bundles").join(name)).unwrap();
        let cpu = ["cpu".to_owned()];
        let of_role = |found: &[Configuration], role: &str| found.iter().filter(|found| found.role == role).count();
        let found = configurations(&open("sd"), &cpu, 2);
        // Three sizes by two thread counts, and of the denoiser three of two rows.
        assert_eq!(of_role(&found, "unet"), 9);
        assert_eq!(of_role(&found, "vae_decoder"), 6);
        assert_eq!(of_role(&found, "text_encoder"), 2);
        let found = configurations(&open("gan"), &cpu, 2);
        assert_eq!((of_role(&found, "mapping"), of_role(&found, "synthesis"), found.len()), (2, 2, 4));
        let found = configurations(&open("wan"), &cpu, 2);
        let of_wan = ["text_encoder", "transformer", "vae_decoder_first", "vae_decoder"].map(|role| of_role(&found, role));
        assert_eq!(of_wan, [2, 3, 6, 6], "the transformer, which sees all frames at once, at its own size only");
        let another = ["cpu".to_owned(), "openvino".to_owned()];
        assert_eq!(configurations(&open("gan"), &another, 8).len(), 2 * (4 + 1));
    }
}
