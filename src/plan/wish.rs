//! What a person says about providers and precisions: for all components, or for one of them.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::bundle::Role;
use crate::refuse;
use crate::runtime::{Precision, Provider, ProviderSetup};

/// What a person wants for each component: for one by its name, else for all; `auto` where nothing is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish<T> {
    common: Option<T>,
    of: BTreeMap<Role, Option<T>>,
}

impl<T> Default for Wish<T> {
    fn default() -> Self {
        Self { common: None, of: BTreeMap::new() }
    }
}

/// Providers in the order in which nodes go to them.
pub type ProviderWish = Wish<Vec<ProviderSetup>>;
/// The precision of the weights.
pub type PrecisionWish = Wish<Precision>;

impl<T> Wish<T> {
    /// What is wanted for the component of `role`; `None` where Kiln chooses.
    #[must_use]
    pub fn of(&self, role: Role) -> Option<&T> {
        self.of.get(&role).unwrap_or(&self.common).as_ref()
    }

    /// What is wanted for whatever is not named.
    #[must_use]
    pub fn common(&self) -> Option<&T> {
        self.common.as_ref()
    }

    /// Whether `role` is named.
    #[must_use]
    pub fn names(&self, role: Role) -> bool {
        self.of.contains_key(&role)
    }

    /// The components that are named.
    pub fn roles(&self) -> impl Iterator<Item = Role> {
        self.of.keys().copied()
    }

    /// Wants `what` for the component of `role`.
    #[must_use]
    pub fn with(mut self, role: Role, what: T) -> Self {
        self.of.insert(role, Some(what));
        self
    }

    /// Wants `what` for every component that is not named.
    #[must_use]
    pub fn for_all(mut self, what: T) -> Self {
        self.common = Some(what);
        self
    }
}

/// How `--provider` is written.
const PROVIDER_FORM: &str = "expected auto, or NAME[:key=value,…][,NAME…], each part after COMPONENT= where it is for one component, \
                             such as `unet=tensorrt:trt_fp16_enable=1,vae_decoder=cuda`";

impl ProviderWish {
    /// Reads `auto`, `cuda`, `openvino:device_type=GPU,precision=FP16`, `tensorrt,cuda` or `unet=tensorrt,vae_decoder=cuda`.
    ///
    /// Parts stand between commas. A part with a component's name before `=` begins what that component gets; a part without `=`, or
    /// with `:` before it, is the next provider in order of preference; any other part is an option of the provider before it. A comma
    /// within a value is written `\\,`.
    ///
    /// # Errors
    /// A [`Refusal`](crate::error::Refusal): a part is empty, a provider, a component or an option is not known or given twice, a value
    /// is none that the option takes, `auto` or `cpu` stands where it makes no sense.
    pub fn parse(text: &str) -> Result<Self> {
        let mut wish = Self::default();
        // The target that parts belong to, with its providers; `None` is all components.
        let mut current: Option<(Option<Role>, Vec<ProviderSetup>, bool)> = None;
        for part in parts(text) {
            let part = part.trim();
            let (head, rest) = part.split_once('=').unwrap_or((part, ""));
            if let Some(role) = role(head).filter(|_| part.contains('=')) {
                wish.put(current.take())?;
                let (setup, auto) = provider(rest)?;
                current = Some((Some(role), setup.into_iter().collect(), auto));
            } else if part.contains('=') && !head.contains(':') {
                let Some(setup) = current.as_mut().and_then(|(_, setups, _)| setups.last_mut()) else {
                    refuse!("--provider: `{part}` stands before any provider, and `{head}` is no component; {PROVIDER_FORM}");
                };
                if let Err(why) = setup.set(head.trim(), rest) {
                    refuse!("--provider: {why}");
                }
            } else {
                let (setup, auto) = provider(part)?;
                let (_, setups, was_auto) = current.get_or_insert((None, Vec::new(), false));
                if auto && !setups.is_empty() || *was_auto {
                    refuse!("--provider: `auto` stands beside another provider, expected it alone");
                }
                *was_auto |= auto;
                setups.extend(setup);
            }
        }
        wish.put(current)?;
        Ok(wish)
    }

    fn put(&mut self, what: Option<(Option<Role>, Vec<ProviderSetup>, bool)>) -> Result<()> {
        let Some((role, setups, auto)) = what else { return Ok(()) };
        for (index, setup) in setups.iter().enumerate() {
            if setups[..index].iter().any(|before| before.provider() == setup.provider()) {
                refuse!("--provider: {} is named twice", setup.provider());
            }
            if setup.provider() == Provider::Cpu && index + 1 < setups.len() {
                refuse!("--provider: cpu stands before {}, which it leaves nothing; name it last", setups[index + 1].provider());
            }
        }
        let setups = (!auto).then_some(setups);
        match role {
            None => self.common = setups,
            Some(role) if self.of.contains_key(&role) => refuse!("--provider: {role} is named twice"),
            Some(role) => drop(self.of.insert(role, setups)),
        }
        Ok(())
    }
}

impl PrecisionWish {
    /// Reads `auto`, `fp16` or `unet=int8,vae_decoder=f32`.
    ///
    /// # Errors
    /// A [`Refusal`](crate::error::Refusal): a part is no precision, a component is not known or named twice.
    pub fn parse(text: &str) -> Result<Self> {
        let mut wish = Self::default();
        let mut common_is_said = false;
        for part in text.split(',').map(str::trim) {
            let (component, word) =
                part.split_once('=').map_or((None, part), |(component, word)| (Some(component.trim()), word.trim()));
            let precision = match word {
                "auto" => None,
                word => match word.parse::<Precision>() {
                    Ok(precision) => Some(precision),
                    Err(why) => refuse!("--precision: {why}, or auto, also as COMPONENT=PRECISION"),
                },
            };
            match component {
                None if common_is_said => refuse!("--precision: `{part}` is the second for all components"),
                None => (wish.common, common_is_said) = (precision, true),
                Some(name) => match role(name) {
                    None => refuse!("--precision: there is no component `{name}`, expected one of {}", role_names()),
                    Some(role) if wish.of.contains_key(&role) => refuse!("--precision: {role} is named twice"),
                    Some(role) => drop(wish.of.insert(role, precision)),
                },
            }
        }
        Ok(wish)
    }
}

/// Cuts `text` at its commas, but for those behind a backslash, which become commas.
fn parts(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match (letter, parts.last_mut()) {
            (',', _) => parts.push(String::new()),
            ('\\', Some(part)) if letters.peek() == Some(&',') => part.extend(letters.next()),
            (letter, Some(part)) => part.push(letter),
            (_, None) => {}
        }
    }
    parts
}

/// Reads `NAME` or `NAME:key=value`; no provider and `true` for `auto`.
fn provider(text: &str) -> Result<(Option<ProviderSetup>, bool)> {
    let (name, option) = text.split_once(':').map_or((text, None), |(name, option)| (name, Some(option)));
    let name = name.trim();
    if name == "auto" && option.is_none() {
        return Ok((None, true));
    }
    let Some(provider) = Provider::named(name) else {
        if name.is_empty() {
            refuse!("--provider: a part is empty; {PROVIDER_FORM}");
        }
        if let Some((component, _)) = name.split_once('=') {
            refuse!("--provider: there is no component `{component}`, expected one of {}", role_names());
        }
        let names: Vec<&str> = Provider::ALL.iter().map(|provider| provider.name()).collect();
        refuse!("--provider: there is no provider `{name}`, expected auto or one of {}", names.join(", "));
    };
    let mut setup = ProviderSetup::new(provider);
    if let Some(option) = option {
        let Some((key, value)) = option.split_once('=') else {
            refuse!("--provider: `{option}` of {provider} is no option, expected key=value; {PROVIDER_FORM}");
        };
        if let Err(why) = setup.set(key.trim(), value) {
            refuse!("--provider: {why}");
        }
    }
    Ok((Some(setup), false))
}

fn role(name: &str) -> Option<Role> {
    Role::ALL.into_iter().find(|role| role.folder() == name.trim())
}

fn role_names() -> String {
    Role::ALL.map(Role::folder).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(wish: &ProviderWish, role: Role) -> String {
        wish.of(role)
            .map_or_else(|| "auto".to_owned(), |setups| setups.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn providers_are_read_for_all_and_for_one() {
        for (given, unet, decoder) in [
            ("auto", "auto", "auto"),
            ("cuda", "cuda", "cuda"),
            ("tensorrt,cuda,cpu", "tensorrt cuda cpu", "tensorrt cuda cpu"),
            (
                "openvino:device_type=GPU.1,precision=fp16",
                "openvino:device_type=GPU.1,precision=FP16",
                "openvino:device_type=GPU.1,precision=FP16",
            ),
            ("unet=tensorrt,vae_decoder=cuda", "tensorrt", "cuda"),
            ("cuda,unet=tensorrt:trt_fp16_enable=on,device_id=0,cuda", "tensorrt:trt_fp16_enable=1,device_id=0 cuda", "cuda"),
            ("unet=auto", "auto", "auto"),
            ("cpu,unet=auto", "auto", "cpu"),
            (
                "openvino:device_type=HETERO:GPU\\,CPU",
                "openvino:device_type=HETERO:GPU\\,CPU",
                "openvino:device_type=HETERO:GPU\\,CPU",
            ),
        ] {
            let wish = ProviderWish::parse(given).unwrap();
            assert_eq!((text(&wish, Role::Unet).as_str(), text(&wish, Role::VaeDecoder).as_str()), (unet, decoder), "{given}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_the_reason() {
        for (given, reason) in [
            ("", "a part is empty"),
            (",", "a part is empty"),
            ("cuda,", "a part is empty"),
            ("cdua", "there is no provider `cdua`, expected auto or one of cpu, cuda"),
            ("unet=", "a part is empty"),
            ("unett=cuda", "`unett` is no component"),
            ("unett=cuda:device_id=0", "`unett` is no component"),
            ("cuda,unett=cuda", "cuda has no option `unett`"),
            ("device_id=0", "stands before any provider"),
            ("cuda:device_id", "expected key=value"),
            ("cuda:device_id=NaN", "expected a whole number from 0 to 63"),
            ("cuda:device_id=0,device_id=1", "is given twice"),
            ("openvino:device_typ=CPU", "the nearest is `device_type`"),
            ("qnn:backend_path=../../../etc/nothing.so", "is not there"),
            ("qnn:backend_path=Cargo.toml/x", "is not"),
            ("cpu,cuda", "name it last"),
            ("cuda,cuda", "named twice"),
            ("unet=cuda,unet=cpu", "unet is named twice"),
            ("auto,cuda", "expected it alone"),
            ("cuda,auto", "expected it alone"),
            ("auto:device_id=0", "there is no provider `auto`"),
        ] {
            let error = ProviderWish::parse(given).unwrap_err();
            assert!(crate::error::is_refusal(&error) && error.to_string().contains(reason), "{given}: {error:#}");
        }
    }

    #[test]
    fn no_component_is_called_like_an_option() {
        for provider in Provider::ALL {
            for option in provider.facts().options {
                assert_eq!(role(option.key), None, "{provider}: {}", option.key);
            }
        }
    }

    #[test]
    fn precisions_are_read_for_all_and_for_one() {
        let wish = PrecisionWish::parse("fp16,vae_decoder=f32,unet=auto").unwrap();
        let of = |role| wish.of(role).copied();
        assert_eq!(
            (of(Role::TextEncoder), of(Role::VaeDecoder), of(Role::Unet)),
            (Some(Precision::Fp16), Some(Precision::F32), None)
        );
        for given in ["", "half", "fp16,int8", "unet=fp16,unet=int8", "unett=fp16", "unet="] {
            assert!(crate::error::is_refusal(&PrecisionWish::parse(given).unwrap_err()), "{given}");
        }
    }
}
