//! One network opened and called some times, with the time and the memory that it took.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::{Configuration, inputs, median};
use crate::bundle::{Bundle, Role};
use crate::plan::Measurement;
use crate::runtime::{
    Cancel, Dimensions, Network, NetworkOptions, Provider, ProviderSetup, Runtime, Tensor, peak_memory_bytes,
    resident_memory_bytes,
};

/// No more calls are made once they took this long together: the median of few long ones is as good as that of many short ones.
const LONG_ENOUGH: Duration = Duration::from_secs(30);

/// Short calls are made for as long as this beyond the number that was asked for: a core's speed changes from one moment to the next.
const UNREST: Duration = Duration::from_millis(200);
/// The median of so many calls is as good as that of more.
const MOST_CALLS: usize = 5000;

/// How often a network is opened for the least of the times.
const LOADS: usize = 3;

/// What a process that measured one configuration hands on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trial {
    /// What was measured.
    pub measurement: Measurement,
    /// What the process held before, with ONNX Runtime loaded, in bytes.
    pub base_bytes: Option<u64>,
}

/// Opens the component of `configuration` and calls it: once, once more to warm up, then `runs` times for the median, more often where
/// that is soon done and less where it takes long; then opens it again for the least time of opening.
///
/// The memory is the process's, so a process measures one configuration only.
///
/// # Errors
/// The bundle has no such component or file of that precision; the provider is not there or does not run it; a shape is not known;
/// the run was cancelled.
pub fn measure(runtime: &Runtime, bundle: &Bundle, configuration: &Configuration, runs: usize, cancel: &Cancel) -> Result<Trial> {
    let named = |role: &&Role| role.folder() == configuration.role;
    let role = *Role::ALL.iter().find(named).with_context(|| format!("`{}` is no component", configuration.role))?;
    let component = bundle.component(role)?;
    let path =
        component.file_of(&configuration.precision).with_context(|| format!("{role} has no {} file", configuration.precision))?;
    let provider = provider(&configuration.provider)?;
    let inputs = inputs::inputs(bundle, component, configuration)?;
    let inputs: Vec<(&str, &Tensor)> = inputs.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let mut options = NetworkOptions {
        threads: configuration.threads,
        providers: vec![ProviderSetup::new(provider)],
        ..NetworkOptions::default()
    };
    if options.wants_fixed_shapes() {
        options.dimensions = Dimensions::of(&component.header.inputs, &inputs)?;
    }

    let base_bytes = resident_memory_bytes();
    let mut network = Network::open(runtime, path, &options, cancel)?;
    let mut load_ms = milliseconds(network.load_time());
    let outputs: Vec<String> = network.outputs().iter().map(|port| port.name.clone()).collect();
    let wanted: Vec<&str> = outputs.iter().map(String::as_str).collect();
    let mut call = || -> Result<f64> {
        network.run(&inputs, &wanted, cancel)?;
        Ok(milliseconds(network.take_run_time().0))
    };
    let begun = Instant::now();
    let first_run_ms = call()?;
    call()?;
    let mut times = vec![call()?];
    let steady = Instant::now();
    while (times.len() < runs && begun.elapsed() < LONG_ENOUGH) || (times.len() < MOST_CALLS && steady.elapsed() < UNREST) {
        times.push(call()?);
    }
    // The memory is that of one network, so it is read before others are opened.
    let (peak_bytes, held_bytes) = (peak_memory_bytes(), resident_memory_bytes());
    drop(network);
    for _ in 1..LOADS {
        if begun.elapsed() >= LONG_ENOUGH {
            break;
        }
        load_ms = load_ms.min(milliseconds(Network::open(runtime, path, &options, cancel)?.load_time()));
    }
    let beyond = |bytes: Option<u64>| Some(bytes?.saturating_sub(base_bytes?));
    let measurement = Measurement {
        role: configuration.role.clone(),
        provider: configuration.provider.clone(),
        precision: configuration.precision.clone(),
        threads: configuration.threads,
        width: configuration.width,
        height: configuration.height,
        batch: configuration.batch,
        load_ms,
        first_run_ms,
        run_ms: median(&times),
        runs: times.len(),
        peak_memory_bytes: beyond(peak_bytes),
        resident_bytes: beyond(held_bytes),
    };
    Ok(Trial { measurement, base_bytes })
}

fn provider(name: &str) -> Result<Provider> {
    Provider::named(name).with_context(|| format!("`{name}` is no provider"))
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::configurations;
    use super::*;
    use crate::output::Picture;
    use crate::plan::{Assignments, MeasurementKey, Measurements, Plan, Settings};
    use crate::request::Request;

    #[test]
    fn every_component_of_every_kind_of_bundle_is_measured() {
        let runtime = Runtime::open(None).unwrap();
        let (mut roles, mut count) = (std::collections::BTreeSet::new(), 0);
        for name in ["sd", "sd_fp16", "sd_inpaint", "lcm", "sdxl", "vae", "gan", "flow", "score", "progressive"] {
            let bundle = Bundle::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bundles").join(name)).unwrap();
            for configuration in configurations(&bundle, &["cpu".to_owned()], 1) {
                let trial = measure(&runtime, &bundle, &configuration, 2, &Cancel::new());
                let Measurement { load_ms, run_ms, runs, .. } =
                    trial.with_context(|| format!("{name}: {configuration:?}")).unwrap().measurement;
                assert!(load_ms > 0.0 && run_ms > 0.0 && runs >= 2, "{name}: {configuration:?}");
                roles.insert(configuration.role);
                count += 1;
            }
        }
        assert_eq!(roles.len(), 9, "{roles:?}");
        assert!(count >= 60, "{count} configurations were measured");
    }

    #[cfg(unix)]
    #[test]
    fn every_call_of_a_clip_is_measured_as_it_is_made_and_its_forecast_rests_on_that() {
        let runtime = Runtime::open(None).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let bundle = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bundles/wan_i2v");
        for entry in std::fs::read_dir(bundle).unwrap().flatten() {
            std::os::unix::fs::symlink(entry.path(), folder.path().join(entry.file_name())).unwrap();
        }
        let card = "name = \"clips\"\n[size]\ndefault = [32, 32]\n[clip]\ndefault_frames = 9\n";
        std::fs::write(folder.path().join("kiln.toml"), card).unwrap();
        let bundle = Bundle::open(folder.path()).unwrap();
        let key = MeasurementKey { bundle: bundle.fingerprint.clone(), runtime: "1".into(), device: "a board".into() };
        let mut known = Measurements::new(key);
        let all = configurations(&bundle, &["cpu".to_owned()], 1);
        // What guidance asks of the transformer, and of the others one row.
        let usual = |found: &&Configuration| found.width == 32 && (found.role != "transformer" || found.batch == 2);
        for configuration in all.iter().filter(usual) {
            let trial = measure(&runtime, &bundle, configuration, 1, &Cancel::new());
            known.put(trial.with_context(|| format!("{configuration:?}")).unwrap().measurement);
        }
        assert_eq!(known.rows.len(), 7);
        let settings = Settings { threads: Some(1), ..Settings::default() };
        let assignments = Assignments::new(&bundle, &settings, &runtime).unwrap();
        let measured = |frames: usize| -> Vec<(Role, bool)> {
            let input = Some(Picture::new(32, 32, 3, vec![9; 3072]).unwrap());
            let request = Request { input, frames: Some(frames), ..Request::new("a sun") };
            let (_, plan) = Plan::within(&bundle, &request, &settings, &assignments, Some(&known), &[]).unwrap();
            plan.forecast.components.iter().map(|component| (component.role, component.is_measured)).collect()
        };
        assert!(measured(9).len() == 7 && measured(9).iter().all(|(_, is_known)| *is_known), "{:?}", measured(9));
        // Of another number of frames only the denoiser's calls are others.
        let longer = measured(17);
        assert!(longer.iter().all(|(role, is_known)| *is_known == (*role != Role::Transformer)), "{longer:?}");
    }

    #[test]
    fn what_there_is_not_is_refused() {
        let runtime = Runtime::open(None).unwrap();
        let bundle = Bundle::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bundles/gan")).unwrap();
        let good = configurations(&bundle, &["cpu".to_owned()], 1).remove(0);
        for (wrong, part) in [
            (Configuration { role: "../unet".into(), ..good.clone() }, "`../unet` is no component"),
            (Configuration { role: "unet".into(), ..good.clone() }, "there is no `unet/model.onnx`"),
            (Configuration { provider: "abacus".into(), ..good.clone() }, "`abacus` is no provider"),
        ] {
            let error = format!("{:#}", measure(&runtime, &bundle, &wrong, 1, &Cancel::new()).unwrap_err());
            assert!(error.contains(part), "{error}");
        }
        let cancel = Cancel::new();
        cancel.cancel();
        assert!(crate::error::is_cancelled(&measure(&runtime, &bundle, &good, 1, &cancel).unwrap_err()));
    }
}
