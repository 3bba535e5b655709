//! Draws the normal numbers that a torch generator of the same seed draws.
//!
//! In: a device whose generator is followed and a 64-bit seed. Out: standard normal `f32` values in the order in which
//! `torch.randn` lays them into a contiguous tensor. Nothing but the standard library is used, and the values are the same on
//! every processor.
//!
//! Not here: what the numbers are for, their shape, and the order in which a pipeline asks for them.

mod mersenne_twister;
mod normal;
mod philox;

use std::fmt;
use std::str::FromStr;

use normal::HostNormals;
use philox::PhiloxNormals;

/// The device whose generator is followed; torch draws other numbers on a GPU than on the processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Device {
    /// `torch.Generator("cpu")`, bit for bit.
    #[default]
    Cpu,
    /// `torch.Generator("cuda")`, to a few units in the sixth decimal and up to the counts that `philox.rs` names.
    Cuda,
}

impl Device {
    /// Gives every device, in the order in which help texts list them.
    pub const ALL: [Self; 2] = [Self::Cpu, Self::Cuda];

    /// Gives the name that [`FromStr`] reads.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// A name that is no [`Device`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownDevice(String);

impl fmt::Display for UnknownDevice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "random numbers of `{}` are not known, expected `cpu` or `cuda`", self.0)
    }
}

impl std::error::Error for UnknownDevice {}

impl FromStr for Device {
    type Err = UnknownDevice;

    fn from_str(name: &str) -> Result<Self, UnknownDevice> {
        Self::ALL.into_iter().find(|device| device.name() == name).ok_or_else(|| UnknownDevice(name.to_owned()))
    }
}

/// Draws what `torch.Generator(device).manual_seed(seed)` draws.
///
/// The state moves on with every call, so two calls give other numbers than one call for the sum of their counts, exactly as
/// with torch.
#[derive(Debug, Clone)]
pub struct Generator {
    source: Source,
}

#[derive(Debug, Clone)]
enum Source {
    Host(Box<HostNormals>),
    Philox(PhiloxNormals),
}

impl Generator {
    /// Seeds a generator; every seed is as good as any other.
    #[must_use]
    pub fn new(device: Device, seed: u64) -> Self {
        let source = match device {
            Device::Cpu => Source::Host(Box::new(HostNormals::new(seed))),
            Device::Cuda => Source::Philox(PhiloxNormals::new(seed)),
        };
        Self { source }
    }

    /// Draws `count` standard normal values, those of `torch.randn(count, generator=g)`.
    ///
    /// A tensor of any shape takes them in row-major order: `torch.randn(1, 4, 64, 64)` is `normals(16384)`.
    #[must_use]
    pub fn normals(&mut self, count: usize) -> Vec<f32> {
        match &mut self.source {
            Source::Host(normals) => normals.draw(count),
            Source::Philox(normals) => normals.draw(count),
        }
    }

    /// Draws an order of the numbers below `count`, that of `torch.randperm(count, generator=g)`; `None` of a generator on CUDA,
    /// which torch asks for none on the processor.
    #[must_use]
    pub fn permutation(&mut self, count: usize) -> Option<Vec<usize>> {
        match &mut self.source {
            Source::Host(normals) => Some(normals.permutation(count)),
            Source::Philox(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_read_from_the_name_it_prints() {
        for device in Device::ALL {
            assert_eq!(device.to_string().parse(), Ok(device));
        }
        let error = "tpu".parse::<Device>().expect_err("tpu is not listed");
        assert_eq!(error.to_string(), "random numbers of `tpu` are not known, expected `cpu` or `cuda`");
    }

    #[test]
    fn no_count_draws_nothing_and_moves_nothing() {
        for device in Device::ALL {
            let mut with_pause = Generator::new(device, 3);
            assert!(with_pause.normals(0).is_empty());
            assert_eq!(with_pause.normals(20), Generator::new(device, 3).normals(20));
        }
    }

    #[test]
    fn a_copy_goes_on_from_where_it_was_made() {
        let mut first = Generator::new(Device::Cpu, 9);
        let _ = first.normals(7);
        let mut second = first.clone();
        assert_eq!(first.normals(33), second.normals(33));
    }
}
