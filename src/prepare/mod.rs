//! Networks prepared ahead, so that they open without being optimised, packed or compiled again.
//!
//! For the processor that is ONNX Runtime's optimised graph with the weights packed for this processor's instructions, in a file that is
//! mapped into memory and shared between processes; for OpenVINO, TensorRT and their kin the folder in which they keep what they
//! compiled; for QNN a context for one shape, and another beside it for another. What was prepared lies in the user's cache under a [`PreparedKey`], is used by itself where the key fits, and is left
//! aside otherwise.
//!
//! In: a bundle, assignments, a runtime. Out: folders on a [`PreparedShelf`], and assignments that make use of them.

mod key;
mod making;
mod packing;
mod shelf;

use crate::bundle::Bundle;
use crate::plan::{Assignments, Settings};
use crate::runtime::Runtime;

pub use key::{FileState, PreparedKey};
pub use making::{Prepared, Wanted, prepare};
pub use shelf::{Listed, MadeFile, Manifest, PREPARED_SCHEMA, PreparedShelf, check, clear, list};

/// Has the components of `bundle` opened as they were prepared, where `settings` say in which cache that is looked for.
pub fn apply(settings: &Settings, bundle: &Bundle, runtime: &Runtime, assignments: &mut Assignments) {
    if let Some(cache) = &settings.prepared {
        PreparedShelf::new(cache, bundle, runtime).apply(assignments);
    }
}
