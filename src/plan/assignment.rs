//! Which provider runs which component, from which file, and why.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;

use super::{Decision, Settings};
use crate::bundle::{Bundle, Component, Role};
use crate::refuse;
use crate::runtime::{Auto, Dimensions, Fallback, Port, Precision, Provider, ProviderSetup, Runtime};

/// How one component is opened.
#[derive(Debug, Clone)]
pub struct Assignment {
    /// Where it runs, the most wanted first.
    pub providers: Vec<ProviderSetup>,
    /// What becomes of it where they do not take it.
    pub fallback: Fallback,
    /// The file.
    pub path: PathBuf,
    /// The same network as it was prepared for this machine, each time with the sizes that its open dimensions were fixed to.
    pub prepared: Vec<(Dimensions, PathBuf)>,
    /// What goes into it.
    pub inputs: Vec<Port>,
    /// What comes out of it.
    pub outputs: Vec<Port>,
    /// The file's name within the component's folder, where it is not the plain one.
    pub variant: Option<String>,
    /// The element type that most of its weights have.
    pub precision: String,
    /// Operators in its graph.
    pub nodes: usize,
    /// Number of weights.
    pub parameters: u64,
    /// Size of the file and of the files of weights beside it, in bytes.
    pub size_bytes: u64,
}

impl Assignment {
    /// What was prepared for `dimensions`.
    #[must_use]
    pub fn prepared_for(&self, dimensions: &Dimensions) -> Option<PathBuf> {
        self.prepared.iter().find(|(of, _)| of == dimensions).map(|(_, path)| path.clone())
    }
}

/// How every component of a bundle is opened; the same for all requests.
#[derive(Debug, Clone, Default)]
pub struct Assignments {
    of: BTreeMap<Role, Assignment>,
    /// Every decision with its reason.
    pub decisions: Vec<Decision>,
    /// What was chosen where nobody said, and why; `None` where there was no choice.
    pub chosen: Option<(Provider, String)>,
}

impl Assignments {
    /// Decides for each component of `bundle` from what `settings` want and what `runtime` holds.
    ///
    /// # Errors
    /// As [`Settings::check`] and [`Runtime::register_plugin`]. Refusals: a component is named that the bundle has not; a provider is named that the library and its plugins do not hold; a
    /// precision is named that is not there. The file of a variant is broken or does not fit.
    pub fn new(bundle: &Bundle, settings: &Settings, runtime: &Runtime) -> Result<Self> {
        settings.check()?;
        if let Some(library) = &settings.provider_library {
            runtime.register_plugin(library)?;
        }
        let (providers, precisions) = (&settings.providers, &settings.precisions);
        for (flag, role) in
            providers.roles().map(|role| ("--provider", role)).chain(precisions.roles().map(|role| ("--precision", role)))
        {
            if !bundle.components.contains_key(&role) {
                let names: Vec<&str> = bundle.components.keys().map(|role| role.folder()).collect();
                refuse!("{flag}: {} has no {role}, expected one of {}", bundle.name(), names.join(", "));
            }
        }
        let mut made = Self::default();
        let mut without = Vec::new();
        for (role, component) in &bundle.components {
            let (setups, fallback, because) = match providers.of(*role) {
                Some(setups) => {
                    setups.iter().try_for_each(|setup| check_is_there(setup.provider(), runtime))?;
                    let fallback = if settings.allow_fallback { Fallback::Allowed } else { Fallback::Refused };
                    (setups.clone(), fallback, "asked for".to_owned())
                }
                None => {
                    let (provider, because) = made.chosen.get_or_insert_with(|| choose(runtime)).clone();
                    (vec![ProviderSetup::new(provider)], Fallback::Whole, because)
                }
            };
            let provider = setups.first().map_or(Provider::Cpu, ProviderSetup::provider);
            let said = precisions.of(*role).copied();
            let (precision, why) = match said {
                Some(precision) if component.variants.contains_key(&precision) => (precision, "asked for"),
                Some(precision) if precisions.names(*role) => {
                    refuse!("--precision: {role} has no {precision} file, only {}", there(component))
                }
                Some(_) => {
                    without.push(*role);
                    (plain(component), "no other file of it is there")
                }
                None => preferred(component, provider),
            };
            let (path, header) = component.variant(precision)?;
            let variant = (*path != component.path).then(|| path.file_name().unwrap_or_default().to_string_lossy().into_owned());
            if component.variants.len() > 1 {
                made.decisions.push(Decision { what: "precision", choice: format!("{role} {precision}"), because: why.into() });
            }
            let names = setups.iter().map(|setup| setup.provider().name()).collect::<Vec<_>>().join(", ");
            let decision = match providers.names(*role) {
                true => Decision { what: "provider", choice: format!("{role} {names}"), because },
                false => Decision { what: "provider", choice: names, because },
            };
            if !made.decisions.contains(&decision) {
                made.decisions.push(decision);
            }
            if let Some(setup) = setups.iter().find(|setup| setup.provider().facts().takes_fixed_shapes) {
                let because =
                    format!("{} takes no open ones; `kiln prepare --size WxH` compiles for a size ahead", setup.provider());
                let decision = Decision { what: "shapes", choice: "fixed, opened anew for each".into(), because };
                if header.inputs.iter().any(Port::is_open) && !made.decisions.contains(&decision) {
                    made.decisions.push(decision);
                }
            }
            let assignment = Assignment {
                providers: setups,
                fallback,
                path: path.into(),
                prepared: Vec::new(),
                inputs: header.inputs,
                outputs: header.outputs,
                variant,
                precision: header.precision,
                nodes: header.nodes,
                parameters: header.parameters,
                size_bytes: header.size_bytes,
            };
            made.of.insert(*role, assignment);
        }
        if let Some(role) = without.first() {
            let wanted = precisions.of(*role).copied().unwrap_or_default();
            if without.len() == made.of.len() {
                let there = bundle.component(*role).map(there).unwrap_or_default();
                refuse!("--precision: no component of {} has a {wanted} file, only {there}", bundle.name());
            }
            let names: Vec<&str> = without.iter().map(|role| role.folder()).collect();
            log::warn!("--precision {wanted}: {} keep their plain files, since there are no others", names.join(", "));
        }
        if runtime.providers() == [Provider::Cpu] {
            made.chosen = None;
        }
        Ok(made)
    }

    /// How the component of `role` is opened.
    #[must_use]
    pub fn of(&self, role: Role) -> Option<&Assignment> {
        self.of.get(&role)
    }

    /// Every component with how it is opened, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Role, &mut Assignment)> {
        self.of.iter_mut().map(|(role, assignment)| (*role, assignment))
    }

    /// Each component with how it is opened.
    pub fn iter(&self) -> impl Iterator<Item = (Role, &Assignment)> {
        self.of.iter().map(|(role, assignment)| (*role, assignment))
    }

    /// The provider that is most wanted for the component of `role`.
    #[must_use]
    pub fn provider_of(&self, role: Role) -> Provider {
        self.of.get(&role).and_then(|assignment| assignment.providers.first()).map_or(Provider::Cpu, ProviderSetup::provider)
    }

    /// The provider that is most wanted for the component which runs most: the denoiser, else the last.
    #[must_use]
    pub fn main_provider(&self) -> Provider {
        let main = self.of.get(&Role::Unet).or_else(|| self.of.get(&Role::Transformer)).or_else(|| self.of.values().next_back());
        main.and_then(|assignment| assignment.providers.first()).map_or(Provider::Cpu, ProviderSetup::provider)
    }
}

fn check_is_there(provider: Provider, runtime: &Runtime) -> Result<()> {
    if runtime.has(provider) {
        return Ok(());
    }
    let there: Vec<&str> = runtime.providers().iter().map(|provider| provider.name()).collect();
    refuse!(
        "--provider: {provider} is not in ONNX Runtime {} ({}), which holds {}; it comes with {}; give a library with --runtime, or a plugin \
         with --provider-library",
        runtime.version(),
        runtime.path().display(),
        there.join(", "),
        provider.facts().source
    )
}

/// The best provider that runs a small network, and why it is the one.
fn choose(runtime: &Runtime) -> (Provider, String) {
    let mut passed_over = Vec::new();
    for provider in runtime.providers().into_iter().filter(|provider| *provider != Provider::Cpu) {
        match provider.facts().auto {
            Auto::Never(why) => passed_over.push(format!("not {provider}: {why}")),
            Auto::Tried => match runtime.probe(provider) {
                Ok(()) => {
                    return (
                        provider,
                        format!(
                            "this ONNX Runtime holds it, and a small network ran on it; it is for {}",
                            provider.facts().hardware
                        ),
                    );
                }
                Err(error) => passed_over.push(format!("not {provider}: {error:#}")),
            },
        }
    }
    let because = if passed_over.is_empty() { "this ONNX Runtime holds no other".into() } else { passed_over.join("; ") };
    (Provider::Cpu, because)
}

/// The first precision that `provider` prefers and that is there, else the plain file's.
fn preferred(component: &Component, provider: Provider) -> (Precision, &'static str) {
    let found = provider.facts().precisions.iter().find(|precision| component.variants.contains_key(precision));
    match found {
        Some(precision) => (*precision, "the provider runs it best"),
        None => (plain(component), "the plain file"),
    }
}

/// The precision of the plain file.
fn plain(component: &Component) -> Precision {
    component.variants.iter().find(|(_, path)| **path == component.path).map_or(Precision::F32, |(precision, _)| *precision)
}

fn there(component: &Component) -> String {
    component.variants.keys().map(|precision| precision.name()).collect::<Vec<_>>().join(", ")
}
