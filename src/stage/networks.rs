//! The opened networks of a bundle: opened when first needed, kept or dropped as the plan says.
//!
//! A provider that takes fixed shapes has a network opened for the shapes of each call, so it is open only once it is called. What is open
//! for other shapes stays as long as the request that they are of: a decoder of tiles meets up to four, whole ones and those at the edges.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use ndarray::{ArrayD, Axis, Slice};

use super::ahead::{Ahead, Wish};
use super::rows::{batches, check_values, padded_for};
use crate::bundle::Role;
use crate::error::{is_cancelled, is_out_of_memory};
use crate::plan::{Assignment, Plan};
use crate::refuse;
use crate::runtime::{Cancel, Dimensions, Fallback, HeldInputs, Network, NetworkOptions, Port, Provider, Runtime, Tensor};

/// What one component cost in a run.
#[derive(Debug, Clone, PartialEq)]
pub struct ComponentTimes {
    /// Which component.
    pub role: Role,
    /// Opening it, in milliseconds; 0 where it was open already.
    pub load_ms: f64,
    /// Running it, in milliseconds, all calls together.
    pub run_ms: f64,
    /// How often it was called.
    pub calls: usize,
    /// The providers that ran it, such as `openvino+cpu`.
    pub provider: String,
}

/// How one component is opened.
#[derive(PartialEq, Eq)]
struct Way {
    path: PathBuf,
    options: NetworkOptions,
    nodes: usize,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    /// What was prepared, by the sizes of open dimensions.
    prepared: Vec<(Dimensions, PathBuf)>,
}

impl Way {
    /// Whether it is opened anew for each shape.
    fn is_by_shape(&self) -> bool {
        self.options.wants_fixed_shapes() && self.inputs.iter().any(Port::is_open)
    }

    /// How it is opened where its open dimensions are of these sizes.
    fn options_for(&self, role: Role, dimensions: &Dimensions) -> NetworkOptions {
        let mut options = self.options.clone();
        if !dimensions.is_empty() {
            options.dimensions = dimensions.clone();
            options.prepared = self.prepared.iter().find(|(of, _)| of == dimensions).map(|(_, path)| path.clone());
            if let (None, Some((other, _))) = (&options.prepared, self.prepared.first()) {
                log::info!("{role}: was prepared for {other}, not for {dimensions}, for which it is compiled now");
            }
        }
        options
    }
}

/// An open network.
struct Opened {
    network: Network,
    /// The sizes that its open dimensions are fixed to.
    dimensions: Dimensions,
    /// Whether the present request called it.
    is_used: bool,
}

/// The networks of one bundle.
pub struct Networks {
    runtime: Arc<Runtime>,
    ways: BTreeMap<Role, Way>,
    open: BTreeMap<Role, Vec<Opened>>,
    /// Those that are opened with a door for vectors of one's own.
    with_vectors: BTreeSet<Role>,
    /// What other threads open.
    ahead: Option<Ahead>,
    times: BTreeMap<Role, ComponentTimes>,
}

impl Networks {
    /// None opened yet; each will be as `plan` says.
    #[must_use]
    pub fn new(runtime: Arc<Runtime>, plan: &Plan) -> Self {
        Self {
            runtime,
            ways: ways(plan),
            open: BTreeMap::new(),
            with_vectors: BTreeSet::new(),
            ahead: None,
            times: BTreeMap::new(),
        }
    }

    /// Those of `kept` where they are opened as `plan` says, else others in their place, none opened yet.
    pub fn for_plan<'n>(kept: &'n mut Option<Self>, runtime: &Arc<Runtime>, plan: &Plan) -> &'n mut Self {
        // What was opened otherwise goes before anything takes its place: both may be too much for the memory.
        if kept.as_ref().is_some_and(|networks| networks.ways != ways(plan)) {
            *kept = None;
        }
        let networks = kept.get_or_insert_with(|| Self::new(Arc::clone(runtime), plan));
        networks.open.values_mut().flatten().for_each(|opened| opened.is_used = false);
        networks
    }

    /// Has other threads open the components that `plan` says, but for the first, which whoever runs it opens meanwhile.
    ///
    /// # Errors
    /// The run was cancelled.
    pub fn open_ahead(&mut self, plan: &Plan, cancel: &Cancel) -> Result<()> {
        let roles = plan.opened_ahead().into_iter().filter(|role| !self.is_open(*role) && !self.with_vectors.contains(role));
        let wish = |role| {
            let way = self.ways.get(&role)?;
            Some(Wish { role, path: way.path.clone(), options: way.options_for(role, &Dimensions::default()) })
        };
        let wishes: Vec<Wish> = roles.filter_map(wish).collect();
        self.ahead = match wishes.is_empty() {
            true => None,
            false => Some(Ahead::begin(&self.runtime, wishes, plan.threads.saturating_sub(1), cancel)?),
        };
        Ok(())
    }

    /// Leaves what other threads have not opened to whoever needs it.
    pub fn end_ahead(&mut self) {
        self.ahead = None;
    }

    /// Whether the component of `role` is open now.
    #[must_use]
    pub fn is_open(&self, role: Role) -> bool {
        self.open.get(&role).is_some_and(|open| !open.is_empty())
    }

    /// The components that are open now and need not be opened again for another shape.
    #[must_use]
    pub fn open_for_all_shapes(&self) -> Vec<Role> {
        let is_by_shape = |role| self.ways.get(&role).is_none_or(Way::is_by_shape);
        self.open.keys().copied().filter(|role| self.is_open(*role) && !is_by_shape(*role)).collect()
    }

    /// Opens the component of `role` unless it is open; one whose shapes have to be fixed when it is called.
    ///
    /// # Errors
    /// The bundle has none; the runtime or the provider does not take the file; the run was cancelled.
    pub fn open(&mut self, role: Role, cancel: &Cancel) -> Result<()> {
        if !self.way(role)?.is_by_shape() {
            self.open_for(role, &Dimensions::default(), cancel)?;
        }
        Ok(())
    }

    /// Opens the component of `role` for open dimensions of these sizes, unless it is open for them.
    fn open_for(&mut self, role: Role, dimensions: &Dimensions, cancel: &Cancel) -> Result<&mut Network> {
        let way = self.ways.get(&role).with_context(|| format!("the bundle has no {role}"))?;
        let open = self.open.entry(role).or_default();
        let place = match open.iter().position(|opened| opened.dimensions == *dimensions) {
            Some(place) => place,
            None => {
                // What other requests left goes before anything takes its place, as both may be too much for the memory.
                open.retain(|opened| opened.is_used);
                let mut options = way.options_for(role, dimensions);
                if self.with_vectors.contains(&role) {
                    // What was prepared has no door.
                    options = NetworkOptions { token_vectors: true, prepared: None, ..options };
                }
                let ahead = self.ahead.as_mut().filter(|_| dimensions.is_empty()).and_then(|ahead| ahead.take(role));
                let network = match ahead {
                    Some(network) => network,
                    None => {
                        Network::open(&self.runtime, &way.path, &options, cancel).map_err(|error| way_out(error, role, way))?
                    }
                };
                if !dimensions.is_empty() {
                    let how = if network.is_prepared() { "as prepared" } else { "compiled" };
                    log::info!("{role}: {how} for {dimensions} in {:.0} ms", network.load_time().as_secs_f64() * 1000.0);
                }
                if let Some(why) = network.fell_back() {
                    log::warn!("{role}: {}: {why}", share_text(&network, way.nodes));
                }
                times_of(&mut self.times, role).load_ms += network.load_time().as_secs_f64() * 1000.0;
                open.push(Opened { network, dimensions: dimensions.clone(), is_used: true });
                open.len() - 1
            }
        };
        let opened = open.get_mut(place).with_context(|| format!("{role} is not open"))?;
        opened.is_used = true;
        Ok(&mut opened.network)
    }

    /// Whether the component of `role` is opened anew for each shape.
    pub(super) fn is_by_shape(&self, role: Role) -> Result<bool> {
        Ok(self.way(role)?.is_by_shape())
    }

    fn way(&self, role: Role) -> Result<&Way> {
        self.ways.get(&role).with_context(|| format!("the bundle has no {role}"))
    }

    /// Has the text encoder of `role` opened with a door for vectors of one's own from now on.
    ///
    /// # Errors
    /// A refusal: its provider takes fixed shapes.
    pub fn take_vectors(&mut self, role: Role) -> Result<()> {
        if self.way(role)?.is_by_shape() {
            refuse!(
                "embedding: {role} runs on a provider that takes fixed shapes, and none goes in there; --provider {role}=cpu takes it"
            );
        }
        if self.with_vectors.insert(role) {
            self.close(role);
        }
        Ok(())
    }

    /// Drops the component of `role`, and with it its memory.
    pub fn close(&mut self, role: Role) {
        self.open.remove(&role);
        if let Some(ahead) = &mut self.ahead {
            ahead.give_up(role);
        }
    }

    /// The inputs of the component of `role`, which is opened if need be.
    ///
    /// # Errors
    /// As [`Networks::open`].
    pub fn inputs(&mut self, role: Role, cancel: &Cancel) -> Result<&[Port]> {
        match self.way(role)?.is_by_shape() {
            true => Ok(&self.way(role)?.inputs),
            false => Ok(self.open_for(role, &Dimensions::default(), cancel)?.inputs()),
        }
    }

    /// The outputs of the component of `role`, which is opened if need be.
    ///
    /// # Errors
    /// As [`Networks::open`].
    pub fn outputs(&mut self, role: Role, cancel: &Cancel) -> Result<&[Port]> {
        match self.way(role)?.is_by_shape() {
            true => Ok(&self.way(role)?.outputs),
            false => Ok(self.open_for(role, &Dimensions::default(), cancel)?.outputs()),
        }
    }

    /// Runs the component of `role` and checks that what it gives is finite and not one value throughout.
    ///
    /// An export whose batch is fixed is given as many rows as it takes; the rows that nobody asked for are cut off again.
    ///
    /// # Errors
    /// As [`Networks::open`] and [`Network::run`]; an output holds NaN, infinity, or one value only, which the message blames on
    /// the component.
    pub fn run(&mut self, role: Role, inputs: &[(&str, &Tensor)], wanted: &[&str], cancel: &Cancel) -> Result<Vec<ArrayD<f32>>> {
        self.run_beside(role, &HeldInputs::default(), inputs, wanted, cancel)
    }

    /// As [`Networks::run`], with `held` beside `inputs`, which stay the same from call to call.
    ///
    /// # Errors
    /// As [`Networks::run`].
    pub fn run_beside(
        &mut self,
        role: Role,
        held: &HeldInputs,
        inputs: &[(&str, &Tensor)],
        wanted: &[&str],
        cancel: &Cancel,
    ) -> Result<Vec<ArrayD<f32>>> {
        let ports = self.inputs(role, cancel)?;
        let (asked_for, fixed) = batches(ports, inputs);
        let all: Vec<(&str, &Tensor)> = inputs.iter().copied().chain(held.iter()).collect();
        let padded: Vec<(&str, Tensor)> = match fixed {
            Some(fixed) => all.iter().map(|(name, tensor)| (*name, padded_for(ports, name, tensor, fixed))).collect(),
            None => Vec::new(),
        };
        // What is padded is another tensor at each call.
        let (none, is_padded) = (HeldInputs::default(), fixed.is_some());
        let held = if is_padded { &none } else { held };
        let given: Vec<(&str, &Tensor)> = match fixed {
            Some(_) => padded.iter().map(|(name, tensor)| (*name, tensor)).collect(),
            None => inputs.to_vec(),
        };
        let way = self.way(role)?;
        let dimensions = match way.is_by_shape() {
            true => Dimensions::of(&way.inputs, if is_padded { &given } else { &all })
                .with_context(|| format!("{role}: {}", way.path.display()))?,
            false => Dimensions::default(),
        };
        let mut outputs =
            self.with_network(role, &dimensions, cancel, |network, _| network.run_beside(held, &given, wanted, cancel))?;
        for (name, output) in wanted.iter().zip(&mut outputs) {
            if fixed.is_some() && output.ndim() > 0 && output.len_of(Axis(0)) > asked_for {
                *output = output.slice_axis(Axis(0), Slice::from(..asked_for)).to_owned();
            }
            check_values(role, name, output)?;
        }
        Ok(outputs)
    }

    /// Has `run` call the component of `role`, opened for `dimensions`, and counts what that costs.
    pub(super) fn with_network<T>(
        &mut self,
        role: Role,
        dimensions: &Dimensions,
        cancel: &Cancel,
        run: impl FnOnce(&mut Network, &Runtime) -> Result<T>,
    ) -> Result<T> {
        let runtime = Arc::clone(&self.runtime);
        let network = self.open_for(role, dimensions, cancel)?;
        let outcome = run(network, &runtime);
        let (run_time, calls) = network.take_run_time();
        let provider = network.placement().to_string();
        let times = times_of(&mut self.times, role);
        times.provider = provider;
        times.run_ms += run_time.as_secs_f64() * 1000.0;
        times.calls += calls;
        match self.ways.get(&role) {
            Some(way) => outcome.map_err(|error| way_out(error, role, way)),
            None => outcome,
        }
    }

    /// Drops all components.
    pub fn close_all(&mut self) {
        self.ahead = None;
        self.open.clear();
    }

    /// What each component cost since the last call of this function, in the order of their use.
    pub fn take_times(&mut self) -> Vec<ComponentTimes> {
        let mut times = std::mem::take(&mut self.times);
        Role::ALL.iter().filter_map(|role| times.remove(role)).collect()
    }
}

fn times_of(times: &mut BTreeMap<Role, ComponentTimes>, role: Role) -> &mut ComponentTimes {
    times.entry(role).or_insert(ComponentTimes { role, load_ms: 0.0, run_ms: 0.0, calls: 0, provider: String::new() })
}

/// How `plan` has each component opened.
fn ways(plan: &Plan) -> BTreeMap<Role, Way> {
    let way = |(role, assignment): (Role, &Assignment)| {
        let way = Way {
            path: assignment.path.clone(),
            options: plan.network_options(role),
            nodes: assignment.nodes,
            inputs: assignment.inputs.clone(),
            outputs: assignment.outputs.clone(),
            prepared: assignment.prepared.clone(),
        };
        (role, way)
    };
    plan.assignments.iter().map(way).collect()
}

/// Says of an error on another provider than the processor which component it is, and what can be done.
fn way_out(error: anyhow::Error, role: Role, way: &Way) -> anyhow::Error {
    if way.options.provider() == Provider::Cpu || is_cancelled(&error) || is_out_of_memory(&error) {
        return error;
    }
    let otherwise = match way.options.fallback {
        Fallback::Refused => "--allow-fallback lets the processor run what it does not take, ",
        Fallback::Allowed | Fallback::Whole => "",
    };
    anyhow!("{role}: {error:#}; {otherwise}--provider {role}=cpu runs the whole component there")
}

/// How much of a network the processor runs, of the `nodes` that its file has.
fn share_text(network: &Network, nodes: usize) -> String {
    let placement = network.placement();
    let left = placement.nodes_of(Provider::Cpu);
    match placement.providers_text() {
        // What another provider compiled into one node counts as the nodes that it was.
        Some(text) if text != Provider::Cpu.name() => {
            let percent = (100 * left).div_ceil(nodes.max(left).max(1));
            format!("{percent} % of its nodes fall back to the processor, the rest runs on {}", text.trim_end_matches("+cpu"))
        }
        _ => "100 % of its nodes fall back to the processor".to_owned(),
    }
}
