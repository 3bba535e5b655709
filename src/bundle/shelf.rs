//! Where bundles are looked for by name.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::refuse;

/// The name of the model that is taken when a person names none.
const DEFAULT_MODEL: &str = "sticker";
/// How like a bundle's name a mistyped one has to be for the bundle to be offered, 1 for the same.
const LEAST_SIMILARITY: f64 = 0.6;

/// The folders in which bundles lie.
#[derive(Debug, Clone)]
pub struct Shelf {
    folders: Vec<PathBuf>,
}

/// A bundle that was found on a shelf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShelvedBundle {
    /// Its name there.
    pub name: String,
    /// Where it lies.
    pub folder: PathBuf,
}

impl Shelf {
    /// The usual places: `KILN_MODELS` (folders as in `PATH`), `models` here, `models` beside the executable or above it as in a
    /// checkout, `../share/kiln/models` from it as installed.
    #[must_use]
    pub fn usual() -> Self {
        let mut folders: Vec<PathBuf> = env::var_os("KILN_MODELS").iter().flat_map(env::split_paths).collect();
        folders.push(PathBuf::from("models"));
        if let Some(beside) = env::current_exe().and_then(std::fs::canonicalize).ok().as_deref().and_then(Path::parent) {
            folders.push(beside.join("models"));
            folders.push(beside.join("../share/kiln/models"));
            // A checkout's binary lies in target/<profile>, a cross-compiled one in target/<triple>/<profile>.
            let checkout = beside.ancestors().skip(2).take(2).find(|above| above.join("Cargo.toml").is_file());
            folders.extend(checkout.map(|checkout| checkout.join("models")));
        }
        Self { folders }
    }

    /// Every bundle that is found, by name; of two with one name the first.
    #[must_use]
    pub fn bundles(&self) -> Vec<ShelvedBundle> {
        let mut found: Vec<ShelvedBundle> = Vec::new();
        for folder in &self.folders {
            let Ok(entries) = std::fs::read_dir(folder) else { continue };
            for entry in entries.flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                let path = entry.path();
                if path.join("model_index.json").is_file() && !found.iter().any(|bundle| bundle.name == name) {
                    found.push(ShelvedBundle { name, folder: std::fs::canonicalize(&path).unwrap_or(path) });
                }
            }
        }
        found.sort_by(|left, right| left.name.cmp(&right.name));
        found
    }

    /// The first folder called `name` that holds `file`: for what lies beside the bundles and is none.
    #[must_use]
    pub fn folder_with(&self, name: &str, file: &str) -> Option<PathBuf> {
        self.folders.iter().map(|folder| folder.join(name)).find(|folder| folder.join(file).is_file())
    }

    /// The folder of the bundle that `model` names: a folder's path, or a name on the shelf; `None` is the default model.
    ///
    /// # Errors
    /// There is neither such a folder nor such a bundle; the message names those that there are.
    pub fn find(&self, model: Option<&Path>) -> Result<PathBuf> {
        let wanted = model.unwrap_or(Path::new(DEFAULT_MODEL));
        let is_name = wanted.components().count() == 1;
        if model.is_some() && wanted.is_dir() {
            return Ok(wanted.to_path_buf());
        }
        let bundles = self.bundles();
        if let Some(bundle) = bundles.iter().find(|bundle| is_name && Path::new(&bundle.name) == wanted) {
            return Ok(bundle.folder.clone());
        }
        if wanted.is_dir() {
            return Ok(wanted.to_path_buf());
        }
        let known = match bundles.as_slice() {
            [] => {
                let folders: Vec<String> = self.folders.iter().map(|folder| folder.display().to_string()).collect();
                format!("no bundle lies in {}", folders.join(", "))
            }
            bundles => {
                let names: Vec<&str> = bundles.iter().map(|bundle| bundle.name.as_str()).collect();
                let typed = wanted.to_string_lossy().to_lowercase();
                let near = names
                    .iter()
                    .map(|name| (strsim::normalized_damerau_levenshtein(&typed, &name.to_lowercase()), name))
                    .filter(|(similarity, _)| *similarity >= LEAST_SIMILARITY)
                    .max_by(|(left, _), (right, _)| left.total_cmp(right));
                let offer = near.map(|(_, name)| format!("did you mean {name}? ")).unwrap_or_default();
                format!("{offer}known by name: {}", names.join(", "))
            }
        };
        if wanted.is_file() {
            refuse!(
                "model {}: is a file, expected the folder of a model, which holds model_index.json; {known}",
                wanted.display()
            );
        }
        refuse!(
            "model {}: there is neither such a folder nor such a name; {known}; name a folder with --model, or in KILN_MODELS \
             the folder in which your models lie",
            wanted.display()
        )
    }
}
