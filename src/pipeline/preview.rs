//! Pictures of latents that are not finished: by the bundle's preview decoder, else by a linear map from latents to colours.

use anyhow::Result;
use ndarray::{ArrayD, Axis, Ix3, IxDyn};

use super::job::Job;
use super::observer::Observer;
use crate::bundle::{Architecture, Bundle, Role};
use crate::output::Picture;
use crate::random::{Device, Generator};
use crate::runtime::Cancel;
use crate::stage::{Networks, PreviewMap, preview_decode};

/// How latents are shown while they develop.
pub(super) enum Preview {
    /// The bundle has a decoder for it.
    Decoder(Role),
    /// A colour for each latent, enlarged to the picture's size.
    Map { map: PreviewMap, pixels_per_latent: u32 },
}

impl Preview {
    /// Makes ready where `observer` wants to look on; a map that has to be fitted is left in `fitted` for the next run.
    pub(super) fn prepare(
        job: &mut Job<'_>,
        fitted: &mut Option<PreviewMap>,
        observer: &mut dyn Observer,
    ) -> Result<Option<Self>> {
        if !observer.wants_preview() {
            return Ok(None);
        }
        let decodes_clips = job.bundle.architecture().is_some_and(Architecture::decodes_clips);
        if decodes_clips && card_map(job.bundle).is_none() {
            log::warn!("--preview: the decoder of this model gives whole clips, and its card has no `preview.latent_to_rgb`");
            return Ok(None);
        }
        if let Some(role) = Self::needs(job.bundle, fitted.as_ref()) {
            job.open(role, observer)?;
        }
        let preview = Self::new(job.bundle, job.networks, fitted, job.cancel)?;
        job.release(Role::VaeDecoder);
        Ok(Some(preview))
    }

    /// The component that must be open before [`Preview::new`]; `None` where `fitted` or the card has the map.
    fn needs(bundle: &Bundle, fitted: Option<&PreviewMap>) -> Option<Role> {
        if let Some(role) = bundle.preview_decoder() {
            Some(role)
        } else if fitted.is_some() || card_map(bundle).is_some() {
            None
        } else {
            Some(Role::VaeDecoder)
        }
    }

    /// Makes ready; a map that has to be fitted is left in `fitted` for the next run.
    fn new(bundle: &Bundle, networks: &mut Networks, fitted: &mut Option<PreviewMap>, cancel: &Cancel) -> Result<Self> {
        if let Some(role) = bundle.preview_decoder() {
            return Ok(Self::Decoder(role));
        }
        let map = match card_map(bundle).or_else(|| fitted.clone()) {
            Some(map) => map,
            None => fitted.insert(fit(bundle, networks, cancel)?).clone(),
        };
        Ok(Self::Map { map, pixels_per_latent: u32::try_from(bundle.geometry.pixels_per_latent)? })
    }

    /// Makes a picture of the first of `latents`, `[B, C, h, w]` f32.
    pub(super) fn show(
        &self,
        bundle: &Bundle,
        networks: &mut Networks,
        latents: &ArrayD<f32>,
        cancel: &Cancel,
    ) -> Result<Picture> {
        let first = latents.index_axis(Axis(0), 0).to_owned().insert_axis(Axis(0));
        match self {
            Self::Decoder(role) => {
                let decoded = preview_decode(bundle, *role, networks, &first, cancel)?;
                Picture::from_tensor(decoded.index_axis(Axis(0), 0).into_dimensionality::<Ix3>()?)
            }
            Self::Map { map, pixels_per_latent } => {
                let small = map.apply(&first);
                let picture = Picture::from_tensor(small.view().into_dimensionality::<Ix3>()?)?;
                picture.resize(picture.width * pixels_per_latent, picture.height * pixels_per_latent)
            }
        }
    }
}

fn card_map(bundle: &Bundle) -> Option<PreviewMap> {
    PreviewMap::from_table(&bundle.card.as_ref()?.preview.latent_to_rgb, bundle.geometry.latent_channels)
}

/// Fits the map to what the bundle's decoder makes of a few latents.
fn fit(bundle: &Bundle, networks: &mut Networks, cancel: &Cancel) -> Result<PreviewMap> {
    let geometry = &bundle.geometry;
    let channels = geometry.latent_channels;
    let (width, height) = match geometry.fixed_size {
        Some((width, height)) => (width as usize / geometry.pixels_per_latent, height as usize / geometry.pixels_per_latent),
        // Enough for as many unknowns as there are channels, few enough to cost next to nothing.
        None => {
            let edge = (8..64).find(|edge| edge * edge >= 4 * (channels + 1)).unwrap_or(64);
            (edge, edge)
        }
    };
    // A generator of its own: a picture must not depend on whether somebody looks on.
    let normals = Generator::new(Device::Cpu, 0).normals(channels * height * width);
    let latents = ArrayD::from_shape_vec(IxDyn(&[1, channels, height, width]), normals)?;
    PreviewMap::fit(bundle, networks, &latents, cancel)
}
