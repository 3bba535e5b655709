//! A denoiser whose samples stay on its device from step to step: what it predicts is combined, and the next sample made of it, by a small
//! network beside it.
//!
//! In: the first sample, then for each step what things are multiplied by. Out: the last sample. Which numbers those are is not known here.
//! Tensors on the device are in the denoiser's own arrangement, patches where it takes patches: a sum does not mind.

use anyhow::{Context, Result, ensure};
use ndarray::{ArrayD, Axis, concatenate};

use super::networks::Networks;
use super::told::Pass;
use crate::bundle::Role;
use crate::error::{is_cancelled, is_out_of_memory};
use crate::plan::GuidancePasses;
use crate::runtime::{Cancel, DeviceTensor, Element, Given, Graph, HeldInputs, Port, Tensor};

/// A denoiser that is told something and gives a prediction, whatever lies between.
pub trait DeviceDenoiser {
    /// The component.
    fn role(&self) -> Role;

    /// The input for samples and the output's name; `None` where the denoiser sees more than samples there.
    fn ports(&self) -> Option<(&Port, &str)>;

    /// How guidance is made, and its scale.
    fn guidance(&self) -> (GuidancePasses, f32);

    /// What the network is told beside samples of `shape`, `[B, C, …]`: what stays the same, and what belongs to `timestep`.
    ///
    /// # Errors
    /// It wants something that is not there.
    fn told(&mut self, pass: Pass, shape: &[usize], timestep: f32) -> Result<(HeldInputs, Vec<(String, Tensor)>)>;

    /// `sample`, `[B, C, …]` f32, as the network has it.
    ///
    /// # Errors
    /// It cannot be arranged so.
    fn arranged(&self, sample: &ArrayD<f32>) -> Result<ArrayD<f32>> {
        Ok(sample.clone())
    }

    /// What [`DeviceDenoiser::arranged`] gave, in `shape` again.
    ///
    /// # Errors
    /// It is something else.
    fn restored(&self, sample: ArrayD<f32>, shape: &[usize]) -> Result<ArrayD<f32>> {
        let _ = shape;
        Ok(sample)
    }
}

/// What a step leaves on the device.
pub struct Stepped {
    /// The next sample.
    pub sample: DeviceTensor,
    /// What the denoiser is given of it.
    pub input: DeviceTensor,
    /// The prediction with guidance, where it was wanted for later.
    pub prediction: Option<DeviceTensor>,
}

/// What a denoiser predicted, before guidance: one tensor, or one for each text.
pub type Predictions = Vec<DeviceTensor>;

/// A sum: what the prediction is multiplied by, and what else is added, each times a number.
pub type Terms<'t> = (f32, Vec<(Given<'t>, f32)>);

/// A loop on a device.
pub struct DeviceLoop {
    role: Role,
    graph: Graph,
    /// Nothing stays the same at each step; it is what the binding is known by.
    held: HeldInputs,
    shape: Vec<usize>,
    output: String,
    guidance: Option<f32>,
    keeps_prediction: bool,
    inputs: Vec<String>,
    /// How many terms the sum has beside the prediction.
    terms: usize,
    sent_before: usize,
}

impl DeviceLoop {
    /// Begins one with a first prediction for `sample`, `[B, C, …]` f32; nothing where the device does not take the steps, which the log tells.
    ///
    /// * `scale`: what the sample is multiplied by for the denoiser
    /// * `terms`: how many terms a step adds at most beside the prediction
    /// * `keeps_prediction`: whether later steps want predictions
    ///
    /// # Errors
    /// The denoiser fails or is cancelled; the device runs out of memory.
    pub fn begin(
        denoiser: &mut dyn DeviceDenoiser,
        networks: &mut Networks,
        sample: &ArrayD<f32>,
        (scale, timestep): (f32, f32),
        (terms, keeps_prediction): (usize, bool),
        cancel: &Cancel,
    ) -> Result<Option<(Self, Predictions)>> {
        let role = denoiser.role();
        let Some((port, output)) = denoiser.ports() else {
            log::debug!("{role}: sees more than samples, which come back to the processor at each step");
            return Ok(None);
        };
        let (port, output) = (port.clone(), output.to_owned());
        let arranged = denoiser.arranged(sample)?;
        let (passes, guidance) = denoiser.guidance();
        let mut first = &arranged * scale;
        if passes == GuidancePasses::BatchOfTwo {
            first = concatenate(Axis(0), &[first.view(), first.view()])?;
        }
        let outputs = networks.outputs(role, cancel)?;
        let element = outputs.iter().find(|port| port.name == output).map(|port| port.element);
        let elements = element.map(|given| (port.element, given)).filter(|(taken, given)| {
            let is_known = |element: &Element| matches!(element, Element::Float32 | Element::Float16 | Element::BFloat16);
            is_known(taken) && is_known(given)
        });
        let Some(elements) = elements.filter(|_| port.accepts(first.shape())) else {
            log::debug!("{role}: takes samples of another shape or type, which come back to the processor at each step");
            return Ok(None);
        };
        let mut begun = Self {
            role,
            graph: Graph::default(),
            held: HeldInputs::default(),
            shape: sample.shape().to_vec(),
            output,
            guidance: (passes != GuidancePasses::One).then_some(guidance),
            keeps_prediction,
            inputs: Vec::new(),
            terms,
            sent_before: networks.sent_values(role, cancel)?,
        };
        let given = Tensor::from(first);
        let mut first_predictions = || {
            let predictions = begun.predict(denoiser, networks, Given::Here(&given), timestep, cancel)?;
            predictions.iter().try_for_each(|prediction| check_shape(role, prediction.shape(), given.shape()))?;
            (begun.graph, begun.inputs) = step_graph(&predictions, arranged.shape(), elements, passes, terms);
            networks.open_beside(role, &begun.graph, cancel)?;
            Ok(predictions)
        };
        match first_predictions() {
            Ok(predictions) => Ok(Some((begun, predictions))),
            Err(error) if is_cancelled(&error) || is_out_of_memory(&error) => Err(error),
            Err(error) => {
                log::debug!("{role}: samples come back to the processor at each step: {error:#}");
                networks.stop_keeping_outputs(role, cancel)?;
                Ok(None)
            }
        }
    }

    /// Predicts at `timestep` for what a step left.
    ///
    /// # Errors
    /// The denoiser fails or is cancelled.
    pub fn predict(
        &self,
        denoiser: &mut dyn DeviceDenoiser,
        networks: &mut Networks,
        input: Given<'_>,
        timestep: f32,
        cancel: &Cancel,
    ) -> Result<Predictions> {
        let name = denoiser.ports().map(|(port, _)| port.name.clone()).context("the denoiser has no input for samples")?;
        let (passes, mut shape) = match denoiser.guidance().0 {
            GuidancePasses::One => (vec![Pass::Conditional], self.shape.clone()),
            GuidancePasses::TwoRuns => (vec![Pass::Unconditional, Pass::Conditional], self.shape.clone()),
            GuidancePasses::BatchOfTwo => (vec![Pass::Both], self.shape.clone()),
        };
        if let (Some(batch), [Pass::Both]) = (shape.first_mut(), passes.as_slice()) {
            *batch *= 2;
        }
        let mut predictions = Vec::with_capacity(passes.len());
        for pass in passes {
            let (held, told) = denoiser.told(pass, &shape, timestep)?;
            let mut inputs = vec![(name.as_str(), input)];
            inputs.extend(told.iter().map(|(name, tensor)| (name.as_str(), Given::Here(tensor))));
            predictions.extend(networks.run_on_device(self.role, &held, &inputs, &[&self.output], cancel)?);
        }
        Ok(predictions)
    }

    /// Makes the next sample of a sum, and what the denoiser is given of it.
    ///
    /// * `scale`: what the sample is multiplied by for the denoiser
    ///
    /// # Errors
    /// The device fails or runs out of memory; the run was cancelled.
    pub fn step(
        &self,
        networks: &mut Networks,
        predictions: &Predictions,
        terms: &Terms<'_>,
        scale: f32,
        cancel: &Cancel,
    ) -> Result<Stepped> {
        let factors = self.factors(terms, scale);
        let inputs = self.given(predictions, terms, &factors)?;
        let wanted: &[&str] = if self.keeps_prediction { &[NEXT, INPUT, GUIDED] } else { &[NEXT, INPUT] };
        let mut made = networks.run_beside_on_device(self.role, &self.graph, &self.held, &inputs, wanted, cancel)?.into_iter();
        let mut take = || made.next().context("a step gave nothing");
        Ok(Stepped { sample: take()?, input: take()?, prediction: self.keeps_prediction.then(take).transpose()? })
    }

    /// Brings a sum to the processor, in the shape of the first sample.
    ///
    /// # Errors
    /// As [`DeviceLoop::step`]; it holds what is no number, or one value only, which is blamed on the denoiser.
    pub fn fetch(
        &self,
        denoiser: &dyn DeviceDenoiser,
        networks: &mut Networks,
        predictions: &Predictions,
        terms: &Terms<'_>,
        cancel: &Cancel,
    ) -> Result<ArrayD<f32>> {
        let factors = self.factors(terms, 1.0);
        let inputs = self.given(predictions, terms, &factors)?;
        let fetched = networks.fetch_beside(self.role, &self.graph, &self.held, &inputs, (NEXT, &self.output), cancel)?;
        denoiser.restored(fetched, &self.shape)
    }

    /// Brings what was predicted, with guidance, to the processor, and makes sure that it is a prediction.
    ///
    /// * `stepped`: what the step made of it
    ///
    /// # Errors
    /// As [`DeviceLoop::fetch`].
    pub fn check(&self, networks: &mut Networks, predictions: &Predictions, stepped: &Stepped, cancel: &Cancel) -> Result<()> {
        // The prediction does not depend on the terms, and one that is there already costs no copy.
        let terms = (0.0, vec![(Given::There(&stepped.sample), 0.0)]);
        let factors = self.factors(&terms, 0.0);
        let inputs = self.given(predictions, &terms, &factors)?;
        networks.fetch_beside(self.role, &self.graph, &self.held, &inputs, (GUIDED, &self.output), cancel)?;
        Ok(())
    }

    /// Tells in the log what a loop of `steps` steps cost in copies.
    ///
    /// * `fetched`: how many samples and predictions came back
    ///
    /// # Errors
    /// The network does not open.
    pub fn tell(&self, networks: &mut Networks, steps: usize, fetched: usize, cancel: &Cancel) -> Result<()> {
        let values: usize = self.shape.iter().product();
        let sent = networks.sent_values(self.role, cancel)?.saturating_sub(self.sent_before);
        let role = self.role;
        log::debug!(
            "{role}: samples of {values} values stayed on the device for {steps} steps: {sent} values went there, {fetched} came back, the first prediction among them"
        );
        Ok(())
    }

    /// What things are multiplied by, in the order in which the graph parts them.
    fn factors(&self, (of_prediction, terms): &Terms<'_>, scale: f32) -> Tensor {
        let mut factors = vec![*of_prediction, scale];
        factors.extend(self.guidance);
        factors.extend(terms.iter().map(|(_, factor)| *factor));
        // A sum of fewer terms has one of them again, times nothing.
        factors.resize(2 + usize::from(self.guidance.is_some()) + self.terms, 0.0);
        ndarray::Array1::from(factors).into_dyn().into()
    }

    fn given<'t>(
        &'t self,
        predictions: &'t Predictions,
        (_, terms): &Terms<'t>,
        factors: &'t Tensor,
    ) -> Result<Vec<(&'t str, Given<'t>)>> {
        // What is there already costs no copy.
        let there = terms.iter().find(|(term, _)| matches!(term, Given::There(_)));
        let (again, _) = there.or(terms.first()).context("a step is a sum of nothing")?;
        ensure!(terms.len() <= self.terms, "a step has {} terms, expected at most {}", terms.len(), self.terms);
        let terms = terms.iter().map(|(term, _)| *term).chain(std::iter::repeat(*again)).take(self.terms);
        let values = predictions.iter().map(Given::There).chain([Given::Here(factors)]).chain(terms);
        Ok(self.inputs.iter().map(String::as_str).zip(values).collect())
    }
}

const NEXT: &str = "next";
const INPUT: &str = "input";
const GUIDED: &str = "guided";

/// Makes sure that a prediction of `found` is of the shape that the network of `role` was `given`, as it is on the processor.
fn check_shape(role: Role, found: &[usize], given: &[usize]) -> Result<()> {
    let mut expected = given.to_vec();
    // Behind a transformer's prediction may stand a variance, in as many channels.
    if let (Role::Transformer, [_, channels, ..], Some(along)) = (role, found, expected.get_mut(1))
        && *channels == 2 * *along
    {
        *along = *channels;
    }
    ensure!(found == expected, "gave a prediction of shape {found:?}, expected the latents' {given:?}");
    Ok(())
}

/// The network of a step, and the names of its inputs: the predictions, the factors, then the terms.
///
/// * `shape`: of a sample
/// * `elements`: of the denoiser's input and of its output
fn step_graph(
    predictions: &Predictions,
    shape: &[usize],
    (taken, given): (Element, Element),
    passes: GuidancePasses,
    terms: usize,
) -> (Graph, Vec<String>) {
    let (mut graph, mut inputs) = (Graph::default(), Vec::new());
    let mut parts = Vec::new();
    for (at, prediction) in predictions.iter().enumerate() {
        let mut name = format!("prediction_{at}");
        graph.input(&name, given, prediction.shape());
        inputs.push(name.clone());
        if given != Element::Float32 {
            let wide = format!("wide_{at}");
            graph.operator("Cast", &[&name], &[&wide], Some(("to", Element::Float32.to_onnx())));
            name = wide;
        }
        // Behind the prediction stands a variance that some networks learned beside it.
        if let ([_, found, ..], [_, channels, ..]) = (prediction.shape(), shape)
            && found > channels
        {
            let mean = format!("mean_{at}");
            if at == 0 {
                graph.integers("from", &[0]);
                graph.integers("to", &[i64::try_from(*channels).unwrap_or(i64::MAX)]);
                graph.integers("along", &[1]);
            }
            graph.operator("Slice", &[&name, "from", "to", "along"], &[&mean], None);
            name = mean;
        }
        parts.push(name);
    }
    inputs.push("factors".to_owned());
    let mut factors = vec!["of_prediction".to_owned(), "of_input".to_owned()];
    if passes != GuidancePasses::One {
        factors.push("of_guidance".to_owned());
    }
    factors.extend((0..terms).map(|at| format!("of_{at}")));
    graph.input("factors", Element::Float32, &[factors.len()]);
    let names: Vec<&str> = factors.iter().map(String::as_str).collect();
    graph.operator("Split", &["factors"], &names, Some(("axis", 0)));

    if passes == GuidancePasses::BatchOfTwo {
        graph.operator("Split", &[&parts[0]], &["unconditional", "conditional"], Some(("axis", 0)));
        parts = vec!["unconditional".to_owned(), "conditional".to_owned()];
    }
    match parts.as_slice() {
        [unconditional, conditional] => {
            graph.operator("Sub", &[conditional, unconditional], &["apart"], None);
            graph.operator("Mul", &["apart", "of_guidance"], &["further"], None);
            graph.operator("Add", &[unconditional, "further"], &[GUIDED], None);
        }
        parts => graph.operator("Identity", &[&parts[0]], &[GUIDED], None),
    }
    graph.operator("Mul", &[GUIDED, "of_prediction"], &["sum"], None);
    let mut sum = "sum".to_owned();
    for at in 0..terms {
        let (term, part) = (format!("term_{at}"), format!("part_{at}"));
        graph.input(&term, Element::Float32, shape);
        graph.operator("Mul", &[&term, &format!("of_{at}")], &[&part], None);
        let next = if at + 1 == terms { NEXT.to_owned() } else { format!("sum_{at}") };
        graph.operator("Add", &[&part, &sum], &[&next], None);
        sum = next;
        inputs.push(term);
    }
    graph.operator("Mul", &[NEXT, "of_input"], &["scaled"], None);
    let mut input = shape.to_vec();
    let mut name = "scaled";
    if passes == GuidancePasses::BatchOfTwo {
        graph.operator("Concat", &["scaled", "scaled"], &["twice"], Some(("axis", 0)));
        name = "twice";
        input[0] *= 2;
    }
    match taken {
        Element::Float32 => graph.operator("Identity", &[name], &[INPUT], None),
        other => graph.operator("Cast", &[name], &[INPUT], Some(("to", other.to_onnx()))),
    }
    graph.output(NEXT, Element::Float32, shape);
    graph.output(INPUT, taken, &input);
    graph.output(GUIDED, Element::Float32, shape);
    (graph, inputs)
}
