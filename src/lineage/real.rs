//! Reads the real pictures that samples are compared with, and brings pictures before the judge.
//!
//! A folder with `sheet.png`, tiles row by row, and `config.json`: `tile_size` in pixels, `count`, `columns`; `held_out`, how many tiles at the
//! beginning no model was trained on (half of them where it is missing); `classes` and each tile's number in `class_labels`, where known.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use ndarray::Array3;
use serde::Deserialize;

use crate::output::Picture;

const LARGEST_CONFIG_BYTES: u64 = 1024 * 1024;
const MOST_TILES: usize = 10_000;
const LARGEST_TILE: usize = 1024;

/// Real pictures.
#[derive(Debug, Clone)]
pub struct RealPictures {
    /// Pictures that no model was trained on.
    pub held_out: Vec<Picture>,
    /// Pictures that models were trained on.
    pub training: Vec<Picture>,
    /// Side of each in pixels.
    pub tile_size: u32,
    /// The class of each of [`RealPictures::held_out`] by name; empty where it is not known.
    pub held_out_classes: Vec<String>,
    /// The classes; empty where they are not known.
    pub classes: Vec<String>,
}

#[derive(Deserialize)]
struct Config {
    tile_size: usize,
    count: usize,
    columns: usize,
    #[serde(default)]
    held_out: Option<usize>,
    #[serde(default)]
    classes: Vec<String>,
    #[serde(default)]
    class_labels: Vec<usize>,
}

impl RealPictures {
    /// Reads the pictures in `folder`.
    ///
    /// # Errors
    /// A file is missing, too large, or not of its format; a number is out of its limits, or the sheet has not the size that they ask for.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join("config.json");
        let name = path.display().to_string();
        let about = fs::metadata(&path).with_context(|| name.clone())?;
        // A device would be read without end.
        ensure!(about.is_file(), "{name}: is not a file");
        let length = about.len();
        ensure!(length <= LARGEST_CONFIG_BYTES, "{name}: has {length} bytes, expected at most {LARGEST_CONFIG_BYTES}");
        let config: Config =
            serde_json::from_slice(&fs::read(&path).with_context(|| name.clone())?).with_context(|| name.clone())?;
        let Config { tile_size, count, columns, .. } = config;
        let held_out = config.held_out.unwrap_or(count / 2);
        ensure!((4..=LARGEST_TILE).contains(&tile_size), "{name}: `tile_size` is {tile_size}, expected 4 to {LARGEST_TILE}");
        ensure!((2..=MOST_TILES).contains(&count), "{name}: `count` is {count}, expected 2 to {MOST_TILES}");
        ensure!((1..=count).contains(&columns), "{name}: `columns` is {columns}, expected 1 to `count`, which is {count}");
        ensure!(
            (1..count).contains(&held_out),
            "{name}: `held_out` is {held_out}, expected 1 to less than `count`, which is {count}"
        );
        let labelled =
            config.class_labels.len() == count && config.class_labels.iter().all(|label| *label < config.classes.len());
        ensure!(
            labelled || config.class_labels.is_empty(),
            "{name}: `class_labels` has {} numbers, expected one below {} for each of {count} tiles",
            config.class_labels.len(),
            config.classes.len()
        );
        let sheet = Picture::open(&folder.join("sheet.png"))?.on_white();
        let (width, height) = (columns * tile_size, count.div_ceil(columns) * tile_size);
        ensure!(
            (sheet.width as usize, sheet.height as usize) == (width, height),
            "{}: is {}x{}, config.json asks for {width}x{height}",
            folder.join("sheet.png").display(),
            sheet.width,
            sheet.height
        );
        let mut tiles =
            (0..count).map(|tile| cut(&sheet, tile % columns, tile / columns, tile_size)).collect::<Result<Vec<_>>>()?;
        let training = tiles.split_off(held_out);
        let held_out_classes =
            config.class_labels.iter().take(held_out).filter_map(|label| config.classes.get(*label).cloned()).collect();
        Ok(Self { held_out: tiles, training, tile_size: u32::try_from(tile_size)?, held_out_classes, classes: config.classes })
    }
}

fn cut(sheet: &Picture, column: usize, row: usize, side: usize) -> Result<Picture> {
    let line = sheet.width as usize * 3;
    let pixels = (0..side)
        .flat_map(|y| {
            let begin = (row * side + y) * line + column * side * 3;
            sheet.pixels.get(begin..begin + side * 3).unwrap_or_default().iter().copied()
        })
        .collect();
    Picture::new(u32::try_from(side)?, u32::try_from(side)?, 3, pixels)
}

/// A picture as the judge takes it: `[3, side, side]` f32 in [-1, 1], on white.
///
/// Every picture first gets the real ones' size (`tile_size`), so that a larger model is not told apart by its pixels alone, and is then enlarged
/// bilinearly, as the judge saw small pictures in its training.
///
/// # Errors
/// A size is 0 or too large.
pub fn judged(picture: &Picture, tile_size: u32, side: usize) -> Result<Array3<f32>> {
    let small = picture.on_white().resize(tile_size, tile_size)?.to_tensor(3)?;
    ensure!((1..=LARGEST_TILE).contains(&side), "the judge's `sample_size` is {side}, expected 1 to {LARGEST_TILE}");
    Ok(enlarged(&small, side))
}

/// Bilinear, each pixel a square whose middle counts (PyTorch's `interpolate` with `align_corners=False`).
fn enlarged(small: &Array3<f32>, side: usize) -> Array3<f32> {
    let (channels, height, width) = small.dim();
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "sides of pictures")]
    let places = |length: usize| -> Vec<(usize, usize, f32)> {
        let scale = length as f32 / side as f32;
        (0..side)
            .map(|place| {
                let at = ((place as f32 + 0.5) * scale - 0.5).max(0.0);
                let low = (at as usize).min(length - 1);
                (low, (low + 1).min(length - 1), at - low as f32)
            })
            .collect()
    };
    let (rows, columns) = (places(height), places(width));
    Array3::from_shape_fn((channels, side, side), |(channel, y, x)| {
        let ((top, bottom, down), (left, right, across)) = (rows[y], columns[x]);
        let blend = |row: usize| small[[channel, row, left]] * (1.0 - across) + small[[channel, row, right]] * across;
        blend(top) * (1.0 - down) + blend(bottom) * down
    })
}

#[cfg(test)]
mod tests {
    use ndarray::{Array1, array};

    use super::*;
    use crate::output::{Format, encode};

    fn folder(config: &str, columns: u32, rows: u32) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let pixels = (0..columns * 4 * rows * 4 * 3).map(|value| (value / 3 % (columns * 4) / 4) as u8 * 10).collect();
        let sheet = Picture::new(columns * 4, rows * 4, 3, pixels).unwrap();
        fs::write(folder.path().join("sheet.png"), encode(&sheet, None, Format::Png).unwrap()).unwrap();
        fs::write(folder.path().join("config.json"), config).unwrap();
        folder
    }

    #[test]
    fn a_sheet_is_cut_into_held_out_and_training_tiles() {
        let folder = folder(
            r#"{"tile_size": 4, "count": 5, "columns": 3, "held_out": 2, "classes": ["a", "b"], "class_labels": [1, 0, 1, 1, 0]}"#,
            3,
            2,
        );
        let real = RealPictures::open(folder.path()).unwrap();
        assert_eq!((real.held_out.len(), real.training.len(), real.tile_size), (2, 3, 4));
        assert_eq!(real.held_out_classes, ["b", "a"]);
        assert!(real.held_out[1].pixels.iter().all(|value| *value == 10));
        assert!(
            real.training[0].pixels.iter().all(|value| *value == 20) && real.training[1].pixels.iter().all(|value| *value == 0)
        );
    }

    #[test]
    fn each_fault_of_the_folder_is_told() {
        let cases = [
            ("{}", "missing field"),
            (r#"{"tile_size": 0, "count": 6, "columns": 3}"#, "`tile_size` is 0"),
            (r#"{"tile_size": 4, "count": 1, "columns": 1}"#, "`count` is 1"),
            (r#"{"tile_size": 4, "count": 6, "columns": 0}"#, "`columns` is 0"),
            (r#"{"tile_size": 4, "count": 6, "columns": 3, "held_out": 6}"#, "`held_out` is 6"),
            (r#"{"tile_size": 4, "count": 6, "columns": 3, "class_labels": [1]}"#, "`class_labels` has 1"),
            (r#"{"tile_size": 4, "count": 9, "columns": 3}"#, "is 12x8, config.json asks for 12x12"),
        ];
        for (config, expected) in cases {
            let folder = folder(config, 3, 2);
            let error = format!("{:#}", RealPictures::open(folder.path()).unwrap_err());
            assert!(error.contains(expected), "{error} lacks {expected}");
        }
        assert!(RealPictures::open(Path::new("nowhere")).is_err());
    }

    #[test]
    fn enlarging_is_that_of_torch() {
        // torch.nn.functional.interpolate(torch.tensor([[[[0., 4.], [8., 12.]]]]), size=4, mode="bilinear", align_corners=False)
        let large = enlarged(&array![[[0.0, 4.0], [8.0, 12.0]]], 4);
        let expected = [0.0, 1.0, 3.0, 4.0, 2.0, 3.0, 5.0, 6.0, 6.0, 7.0, 9.0, 10.0, 8.0, 9.0, 11.0, 12.0];
        assert_eq!(large.flatten(), Array1::from_vec(expected.to_vec()));
        assert_eq!(enlarged(&large, 4), large);
    }

    #[test]
    fn a_larger_picture_is_brought_to_the_size_of_the_real_ones_first() {
        let picture = Picture::new(8, 8, 4, [255, 0, 0, 0].repeat(64)).unwrap();
        let judged = judged(&picture, 4, 16).unwrap();
        assert_eq!(judged.dim(), (3, 16, 16));
        assert!(judged.iter().all(|value| *value == 1.0), "what is transparent is white");
    }
}
