//! An opened super-resolution network: what it takes, and by how much it enlarges.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use ndarray::{ArrayD, Axis, Ix3, IxDyn, Slice, concatenate};

use super::tiles::{LARGEST_TILE_PX, SMALLEST_TILE_PX, in_tiles};
use crate::bundle::{Card, UpscaleCard, read_header, sha256_of_file};
use crate::output::{LARGEST_SIDE_PX, Picture};
use crate::refuse;
use crate::runtime::{Cancel, Network, NetworkOptions, Runtime, Tensor};

/// Side of a tile in pixels where neither a person nor a card says.
const USUAL_TILE_PX: usize = 256;
/// Side of the picture by which the factor is found; divides by what networks halve or cut windows into.
const PROBE_SIDE_PX: usize = 64;
/// Networks beyond this are none that enlarge.
const LARGEST_FACTOR: usize = 16;

/// A network that enlarges pictures.
pub struct Upscaler {
    network: Network,
    /// Its card's name, else its folder's or its file's.
    name: String,
    path: PathBuf,
    card: UpscaleCard,
    input: String,
    output: String,
    /// Height and width that it takes, where its export fixed them.
    fixed: Option<(usize, usize)>,
    factor: usize,
}

impl Upscaler {
    /// Opens the network at `path`: an ONNX file, or a folder with `model.onnx` and perhaps a card.
    ///
    /// # Errors
    /// Refusals: there is no such file or folder, or it is no network that enlarges pictures. The file is broken; the runtime does not take it; the card is broken or says another factor
    /// than the network's.
    pub fn open(runtime: &Runtime, path: &Path, options: &NetworkOptions, cancel: &Cancel) -> Result<Self> {
        let (file, card) = match path.is_dir() {
            true => (path.join("model.onnx"), Card::open(path)?),
            false => (path.to_path_buf(), None),
        };
        let shown = file.display();
        if !file.is_file() {
            refuse!("upscaler {shown}: there is no such file, expected an ONNX file, or a folder with model.onnx");
        }
        let header = read_header(&file)?;
        let ([input], [output, ..]) = (&header.inputs[..], &header.outputs[..]) else {
            refuse!("upscaler {shown}: takes {} inputs, expected one, the picture", header.inputs.len());
        };
        for port in [input, output] {
            let is_picture =
                port.shape.len() == 4 && port.shape.get(1).is_some_and(|channels| channels.is_none_or(|count| count == 3));
            if !is_picture || !port.element.is_float() {
                refuse!(
                    "upscaler {shown}: `{}` is {} {}, expected a picture [B, 3, H, W]",
                    port.name,
                    port.element,
                    port.shape_text()
                );
            }
        }
        let fixed = input.shape.get(2).copied().flatten().zip(input.shape.get(3).copied().flatten());
        if let Some((height, width)) =
            fixed.filter(|(height, width)| (*height).min(*width) == 0 || (*height).max(*width) > LARGEST_TILE_PX)
        {
            refuse!("upscaler {shown}: takes pictures of {width}x{height}, expected sides of 1 to {LARGEST_TILE_PX}");
        }
        let of_folder = || path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let name = card.as_ref().map_or_else(of_folder, |card| card.name.clone());
        let card = card.map(|card| card.upscale).unwrap_or_default();
        let network = Network::open(runtime, &file, options, cancel)?;
        let (input, output) = (input.name.clone(), output.name.clone());
        let mut upscaler = Self { network, name, path: file, card, input, output, fixed, factor: 1 };
        upscaler.factor = upscaler.found_factor(cancel)?;
        Ok(upscaler)
    }

    /// How many times as large a picture becomes, each way.
    #[must_use]
    pub fn factor(&self) -> usize {
        self.factor
    }

    /// Its card's name, else its folder's or its file's.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The SHA-256 of its file, hexadecimal.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn sha256(&self) -> Result<String> {
        sha256_of_file(&self.path)
    }

    /// Enlarges `picture`; its opacity, where it has some, with Lanczos' filter.
    ///
    /// * `tile`: side of the tiles in pixels; the card's or the usual one when `None`. A network of fixed sides has tiles of those.
    /// * `done`: is told of each tile that is done, and of how many
    ///
    /// # Errors
    /// Refusals: the tile is smaller than 16 pixels or larger than 4096; the picture would become larger than pictures may be. The network fails, or gives what
    /// is no number or of another size; the run was cancelled.
    pub fn enlarge(
        &mut self,
        picture: &Picture,
        tile: Option<usize>,
        cancel: &Cancel,
        mut done: impl FnMut(usize, usize),
    ) -> Result<Picture> {
        let side = self.tile(tile)?;
        let factor = u32::try_from(self.factor)?;
        let size = picture.width.checked_mul(factor).zip(picture.height.checked_mul(factor));
        let Some((width, height)) = size.filter(|(width, height)| (*width).max(*height) <= LARGEST_SIDE_PX) else {
            refuse!(
                "upscale: {}x{} becomes {factor} times as large, and sides of pictures are at most {LARGEST_SIDE_PX}",
                picture.width,
                picture.height
            );
        };
        let opaque = Picture::new(picture.width, picture.height, 3, colours(picture))?;
        // From [-1, 1] to [0, 1].
        let pixels = opaque.to_tensor(3)?.mapv(|value| value / 2.0 + 0.5).insert_axis(Axis(0)).into_dyn();
        let made = in_tiles(
            &pixels,
            self.factor,
            side,
            |cut| self.call(cut, cancel),
            |number, all| {
                cancel.check()?;
                done(number, all);
                Ok(())
            },
        )?;
        let made = made.mapv(|value| value * 2.0 - 1.0);
        let enlarged = Picture::from_tensor(made.index_axis(Axis(0), 0).into_dimensionality::<Ix3>()?)?;
        if picture.channels != 4 {
            return Ok(enlarged);
        }
        let opacity = picture.resize(width, height)?;
        let pixels = enlarged.pixels.chunks_exact(3).zip(opacity.pixels.chunks_exact(4));
        let pixels = pixels.flat_map(|(colour, with)| [colour[0], colour[1], colour[2], with[3]]).collect();
        Picture::new(width, height, 4, pixels)
    }

    fn tile(&self, asked: Option<usize>) -> Result<usize> {
        if let Some((height, width)) = self.fixed {
            if let Some(asked) = asked.filter(|asked| *asked != height.min(width)) {
                refuse!("tile: is {asked}, and upscaler {} takes {width}x{height} only; leave it out", self.name);
            }
            return Ok(height.min(width));
        }
        let side = asked.or(self.card.tile).unwrap_or(USUAL_TILE_PX);
        if !(SMALLEST_TILE_PX..=LARGEST_TILE_PX).contains(&side) {
            refuse!("tile: is {side}, expected a side of {SMALLEST_TILE_PX} to {LARGEST_TILE_PX} pixels");
        }
        Ok(side)
    }

    /// Enlarges one tile, `[1, 3, h, w]` f32 in [0, 1], which is filled up to what the network takes.
    fn call(&mut self, tile: ArrayD<f32>, cancel: &Cancel) -> Result<ArrayD<f32>> {
        let (height, width) = (tile.len_of(Axis(2)), tile.len_of(Axis(3)));
        let (tall, wide) = self.fixed.unwrap_or_else(|| {
            let multiple = self.card.multiple.unwrap_or(1);
            (height.next_multiple_of(multiple), width.next_multiple_of(multiple))
        });
        let made = self.run(filled_up(filled_up(tile, Axis(2), tall)?, Axis(3), wide)?, cancel)?;
        let expected = [1, 3, tall * self.factor, wide * self.factor];
        ensure!(made.shape() == expected, "upscaler {}: gave {:?}, expected {expected:?}", self.name, made.shape());
        let made = made.slice_axis(Axis(2), Slice::from(..height * self.factor)).to_owned();
        Ok(made.slice_axis(Axis(3), Slice::from(..width * self.factor)).to_owned())
    }

    /// Runs the network on `[1, 3, h, w]` f32 in [0, 1]; returns what it gives in [0, 1], not clamped.
    fn run(&mut self, picture: ArrayD<f32>, cancel: &Cancel) -> Result<ArrayD<f32>> {
        let [least, most] = self.card.range.unwrap_or([0.0, 1.0]);
        let picture = picture.mapv(|value| value * (most - least) + least);
        let input = Tensor::from(picture);
        let mut outputs = self.network.run(&[(&self.input, &input)], &[&self.output], cancel)?;
        let made = outputs.pop().with_context(|| format!("upscaler {}: gave nothing", self.name))?;
        if let Some(value) = made.iter().find(|value| !value.is_finite()) {
            bail!("upscaler {}: its output holds {value}; its file is damaged, or it overflows at this precision", self.name);
        }
        Ok(made.mapv(|value| (value - least) / (most - least)))
    }

    /// By how much the network enlarges, held against the card.
    fn found_factor(&mut self, cancel: &Cancel) -> Result<usize> {
        let multiple = self.card.multiple.unwrap_or(1);
        let side = PROBE_SIDE_PX.next_multiple_of(multiple);
        let (height, width) = self.fixed.unwrap_or((side, side));
        #[expect(clippy::cast_precision_loss, reason = "a side has some hundred pixels")]
        let probe = ArrayD::from_shape_fn(IxDyn(&[1, 3, height, width]), |at| (at[2] + at[3]) as f32 / (height + width) as f32);
        let made = self.run(probe, cancel)?;
        let shape = made.shape().to_vec();
        let factor = shape.get(2).map_or(0, |tall| tall / height);
        let fits = shape == [1, 3, height * factor, width * factor] && (1..=LARGEST_FACTOR).contains(&factor);
        if !fits {
            refuse!(
                "upscaler {}: makes {shape:?} of [1, 3, {height}, {width}], expected both sides 1 to {LARGEST_FACTOR} times as large",
                self.name
            );
        }
        if let Some(said) = self.card.factor.filter(|said| *said != factor) {
            bail!("upscaler {}: enlarges {factor} times, and its card says `upscale.factor` {said}", self.name);
        }
        Ok(factor)
    }
}

/// Red, green and blue of each pixel, as they are under its opacity.
fn colours(picture: &Picture) -> Vec<u8> {
    let pixels = picture.pixels.chunks_exact(picture.channels);
    pixels.flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect()
}

/// Repeats the last line of `array` along `axis` until there are `size`.
fn filled_up(array: ArrayD<f32>, axis: Axis, size: usize) -> Result<ArrayD<f32>> {
    let there = array.len_of(axis);
    if there >= size {
        return Ok(array);
    }
    let last = array.slice_axis(axis, Slice::from(there - 1..)).to_owned();
    let lines = vec![last.view(); size - there];
    let fill = concatenate(axis, &lines)?;
    Ok(concatenate(axis, &[array.view(), fill.view()])?)
}
