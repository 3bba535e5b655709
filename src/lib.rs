#![doc = include_str!("../README.md")]

pub mod bundle;
#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "client")]
pub mod client;
pub mod engine;
pub mod error;
pub mod lineage;
pub mod ode;
pub mod output;
pub mod pipeline;
pub mod plan;
pub mod prepare;
pub mod random;
pub mod request;
pub mod runtime;
pub mod sampler;
#[cfg(feature = "server")]
pub mod server;
pub mod stage;
pub mod text;
pub mod tune;
pub mod upscale;

pub(crate) use error::{refusal, refuse};

pub use engine::{Engine, Generated, GeneratedClip};
pub use output::{Picture, Provenance};
pub use pipeline::{Event, Observer};
pub use plan::{Memory, Settings};
pub use request::Request;
pub use runtime::Cancel;
