//! How a person changes the sampler for one run, and how a picture's provenance keeps it.

use std::fmt::Display;
use std::str::FromStr;

use anyhow::Result;
use serde_json::{Map, Value};

use crate::ode::Method;
use crate::{refusal, sampler};

/// Another sampler, or another way to run the model's own.
#[derive(Debug, Clone, Default)]
pub struct SamplerChoice {
    /// A whole configuration in place of the bundle's; the person's own, so nothing in it is mended.
    pub config: Option<sampler::Config>,
    /// Another algorithm or variant.
    pub choice: Option<sampler::Choice>,
    /// A solver in place of a sampler, for a family whose network is a field.
    pub method: Option<Method>,
    /// Error that a step of a solver may have that chooses its own.
    pub tolerance: Option<f32>,
    /// Changes to its run; `steps` and `strength` are set from the request.
    pub run: sampler::Run,
}

impl SamplerChoice {
    /// What was changed, by name; what was not is left out.
    #[must_use]
    pub fn to_map(&self) -> Map<String, Value> {
        let run = &self.run;
        let text = |value: Option<String>| value.map(Value::from);
        let entries = [
            ("config", self.config.as_ref().map(sampler::Config::to_json)),
            ("sampler", text(self.choice.map(|choice| choice.to_string()))),
            ("solver", text(self.method.map(|method| method.to_string()))),
            ("tolerance", self.tolerance.map(Value::from)),
            ("timesteps", run.timesteps.clone().map(Value::from)),
            ("sigmas", run.sigmas.clone().map(Value::from)),
            ("original_steps", run.original_steps.map(Value::from)),
            ("mu", run.mu.map(Value::from)),
            ("eta", run.eta.map(Value::from)),
            ("spacing", text(run.spacing.map(|spacing| spacing.to_string()))),
            ("shift", run.shift.map(Value::from)),
            ("sigma_schedule", text(run.sigma_schedule.map(|schedule| schedule.to_string()))),
        ];
        entries.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
    }

    /// Reads what [`SamplerChoice::to_map`] wrote.
    ///
    /// # Errors
    /// A value is of another type, or names what this version does not know.
    pub fn from_map(map: &Map<String, Value>) -> Result<Self> {
        let number =
            |key: &str| map.get(key).map(|value| value.as_f64().ok_or_else(|| wrong(key, value, "a number"))).transpose();
        #[expect(clippy::cast_possible_truncation, reason = "they were f32 when they were written")]
        let numbers = |key: &str| {
            let read = |value: &Value| {
                let list = value.as_array()?;
                list.iter().map(|number| number.as_f64().map(|number| number as f32)).collect::<Option<Vec<f32>>>()
            };
            map.get(key).map(|value| read(value).ok_or_else(|| wrong(key, value, "a list of numbers"))).transpose()
        };
        let steps = map.get("original_steps");
        let steps = steps.map(|value| {
            let count = value.as_u64().and_then(|count| usize::try_from(count).ok());
            count.ok_or_else(|| wrong("original_steps", value, "a count"))
        });
        #[expect(clippy::cast_possible_truncation, reason = "it was f32 when it was written")]
        let tolerance = number("tolerance")?.map(|tolerance| tolerance as f32);
        Ok(Self {
            config: map.get("config").map(sampler::Config::from_json).transpose()?,
            choice: word(map, "sampler")?,
            method: word(map, "solver")?,
            tolerance,
            run: sampler::Run {
                timesteps: numbers("timesteps")?,
                sigmas: numbers("sigmas")?,
                original_steps: steps.transpose()?,
                mu: number("mu")?,
                eta: number("eta")?,
                spacing: word(map, "spacing")?,
                shift: number("shift")?,
                sigma_schedule: word(map, "sigma_schedule")?,
                ..sampler::Run::default()
            },
        })
    }
}

fn word<T: FromStr<Err = anyhow::Error>>(map: &Map<String, Value>, key: &str) -> Result<Option<T>> {
    map.get(key).map(|value| value.as_str().ok_or_else(|| wrong(key, value, "a name"))?.parse()).transpose()
}

fn wrong(key: &str, value: &Value, expected: impl Display) -> anyhow::Error {
    refusal!("provenance: `{key}` is {value}, expected {expected}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_survives_its_way_through_provenance() {
        let choice = SamplerChoice {
            config: Some(sampler::Config::default_of(sampler::Kind::Euler).unwrap()),
            choice: Some("dpm++-karras".parse().unwrap()),
            method: Some("rk4".parse().unwrap()),
            tolerance: Some(0.125),
            run: sampler::Run {
                timesteps: Some(vec![999.0, 421.5]),
                eta: Some(0.5),
                spacing: Some("trailing".parse().unwrap()),
                shift: Some(3.0),
                original_steps: Some(50),
                ..sampler::Run::default()
            },
        };
        let again = SamplerChoice::from_map(&choice.to_map()).unwrap();
        assert_eq!(again.to_map(), choice.to_map());
        assert_eq!((again.choice, again.method, &again.run), (choice.choice, choice.method, &choice.run));
        assert!(SamplerChoice::default().to_map().is_empty());
    }

    #[test]
    fn a_value_of_another_type_is_named() {
        let map = serde_json::json!({ "eta": "much" });
        let error = SamplerChoice::from_map(map.as_object().unwrap()).unwrap_err();
        assert_eq!(error.to_string(), "provenance: `eta` is \"much\", expected a number");
    }
}
