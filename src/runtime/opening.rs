//! Opens a session of ONNX Runtime: on which providers, with which shapes, optimised how, and what each provider left to the processor.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, anyhow, bail};
use ort::logging::LogLevel;
use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};

use super::cancel::Work;
use super::failure::{failed, says_out_of_memory};
use super::library::forward;
use super::provider::{LEFT_TO_PROCESSOR, PlacementLog, ShapeNodes, append};
use super::{Cancel, Dimensions, Fallback, NetworkOptions, Placement, Provider, ProviderSetup, Runtime, one_line, token_vectors};
use crate::error::{Cancelled, is_cancelled};

/// How a session treats the graph.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Optimising<'p> {
    /// As it is opened.
    Now,
    /// It was done before.
    Before,
    /// As it is opened, and the result is kept in the file, its weights in the file of this name beside it, and packed if so wanted.
    AndKept(&'p Path, &'p str, bool),
    /// By the provider, as it is opened, and what it compiled is kept in the file and in others beside it.
    Compiled(&'p Path),
}

/// Opens what was prepared, where there is such a file; nothing where it does not open, which is told.
pub(super) fn open_prepared(
    runtime: &Runtime,
    options: &NetworkOptions,
    cancel: &Cancel,
) -> Result<Option<(Session, PlacementLog)>> {
    let Some(path) = &options.prepared else { return Ok(None) };
    // Its shapes were fixed when it was compiled.
    let options = NetworkOptions { dimensions: Dimensions::default(), ..options.clone() };
    let optimising = if options.provider() == Provider::Cpu { Optimising::Before } else { Optimising::Now };
    match open_session(runtime, path, &options, optimising, cancel) {
        Ok(opened) => Ok(Some(opened)),
        Err(error) if is_cancelled(&error) => Err(error),
        Err(error) => {
            log::warn!("what was prepared does not open, and the model's own file is: {error:#}");
            Ok(None)
        }
    }
}

/// Opens a session on the providers of `options`, with the log that says where its nodes are.
pub(super) fn open_session(
    runtime: &Runtime,
    path: &Path,
    options: &NetworkOptions,
    optimising: Optimising<'_>,
    cancel: &Cancel,
) -> Result<(Session, PlacementLog)> {
    let wanted = options.provider();
    let log = PlacementLog::default();
    let says = |error: ort::Error| {
        let message = one_line(&error.to_string());
        match wanted {
            Provider::Cpu => failed(&path.display().to_string(), &message),
            _ if says_out_of_memory(&message) => failed(&format!("{}: {wanted}", path.display()), &message),
            _ => anyhow!("{}: {wanted} does not take it: {message}{}", path.display(), log.errors_text()),
        }
    };
    let mut builder = builder(runtime, options, &log).and_then(|builder| optimised(builder, optimising)).map_err(says)?;
    let outcome = {
        let _watch = cancel.watch(Work::Load(builder.canceler()))?;
        if options.token_vectors { token_vectors::open(builder, path)? } else { builder.commit_from_file(path) }
    };
    let session = match outcome {
        Ok(session) => session,
        Err(_) if cancel.is_cancelled() => return Err(Cancelled.into()),
        // ONNX Runtime refuses before it says what is where: only a session that may fall back tells.
        Err(error) if error.to_string().contains(LEFT_TO_PROCESSOR) => {
            let lenient = NetworkOptions { fallback: Fallback::Allowed, ..options.clone() };
            let (_, log) = open_session(runtime, path, &lenient, Optimising::Now, cancel)?;
            let why = left_text(path, &log.placement(), &log, wanted);
            bail!(
                "{}: {}",
                path.display(),
                why.unwrap_or_else(|| format!("{wanted} does not take it: {}", one_line(&error.to_string())))
            );
        }
        Err(error) => return Err(says(error)),
    };
    if wanted != Provider::Cpu && !allows_processor(options) {
        let placement = log.placement();
        if placement.is_empty() {
            bail!("{}: this ONNX Runtime does not say which nodes {wanted} runs", path.display());
        }
        if let Some(why) = left_text(path, &placement, &log, wanted) {
            bail!("{}: {why}", path.display());
        }
    }
    Ok((session, log))
}

/// Opens a session of the small network in `graph`, which the wanted provider of `options` has to take whole.
pub(super) fn open_graph(
    runtime: &Runtime,
    graph: &[u8],
    options: &NetworkOptions,
    cancel: &Cancel,
) -> Result<(Session, Placement)> {
    let (log, wanted) = (PlacementLog::default(), options.provider());
    let says = |error: ort::Error| anyhow!("{wanted}: {}{}", one_line(&error.to_string()), log.errors_text());
    let mut builder = builder(runtime, options, &log).map_err(says)?;
    let session = {
        let _watch = cancel.watch(Work::Load(builder.canceler()))?;
        builder.commit_from_memory(graph).map_err(says)?
    };
    let placement = if wanted == Provider::Cpu { Placement::on_processor() } else { log.placement() };
    let left = placement.nodes_of(Provider::Cpu);
    if wanted != Provider::Cpu && (left > 0 || placement.nodes_of(wanted) == 0) {
        bail!("{wanted} leaves {left} nodes of it to the processor ({})", placement.on_processor_text());
    }
    Ok((session, placement))
}

/// Whether the processor may run what the other providers leave.
fn allows_processor(options: &NetworkOptions) -> bool {
    options.fallback == Fallback::Allowed || options.providers.iter().any(|setup| setup.provider() == Provider::Cpu)
}

/// Says what `wanted` leaves to the processor of the network in `path`, and ONNX Runtime's reason; `None` where it leaves nothing but
/// what it leaves on purpose.
pub(super) fn left_text(path: &Path, placement: &Placement, log: &PlacementLog, wanted: Provider) -> Option<String> {
    let left = placement.nodes_of(Provider::Cpu);
    if placement.nodes_of(wanted) == 0 && !placement.is_empty() {
        return Some(format!("{wanted} takes none of its nodes{}", log.errors_text()));
    }
    if left == 0 {
        return None;
    }
    let mut beyond = String::new();
    if wanted.facts().leaves_shapes {
        let shapes = ShapeNodes::read(path).unwrap_or_else(|error| {
            log::debug!("{}: which operators compute on shapes is not known: {error:#}", path.display());
            ShapeNodes::default()
        });
        match placement.beyond(&shapes).as_deref() {
            Some([]) => return None,
            Some([(operator, name), others @ ..]) => {
                beyond = format!(", {} of them not on shapes, the first {operator} `{name}`", others.len() + 1);
            }
            None => {}
        }
    }
    Some(format!(
        "{wanted} leaves {left} nodes to the processor ({}){beyond}{}",
        placement.on_processor_text(),
        log.errors_text()
    ))
}

fn builder(runtime: &Runtime, options: &NetworkOptions, log: &PlacementLog) -> ort::Result<SessionBuilder> {
    // A pattern is one block more for each set of shapes, beside what the arena took for the first run; it saves no time.
    let mut builder = Session::builder(&runtime.environment)?.with_memory_pattern(false)?;
    if options.threads != runtime.shared_threads {
        builder = builder.with_independent_thread_pool()?.with_intra_threads(options.threads.max(1))?;
    }
    let wanted: Vec<&ProviderSetup> = options.providers.iter().filter(|setup| setup.provider() != Provider::Cpu).collect();
    if wanted.is_empty() {
        // Before 1.23 a runtime knows plugins and lists no device.
        builder = match runtime.plugin_devices(Provider::Cpu) {
            0 => runtime.append_processor(builder, options.memory_arena)?,
            _ => append(builder, runtime, &ProviderSetup::default())?,
        };
    } else {
        let log = log.clone();
        builder =
            builder.with_log_level(LogLevel::Verbose)?.with_logger(Arc::new(move |level, category, _, location, message| {
                log.note(matches!(level, LogLevel::Error | LogLevel::Fatal), message);
                // What goes wrong while opening is told by the error.
                forward(if level > LogLevel::Warning { LogLevel::Warning } else { level }, category, location, message);
            }))?;
        // What ONNX Runtime itself refuses is refused before anything is compiled.
        if !allows_processor(options) && !wanted.iter().any(|setup| setup.provider().facts().leaves_shapes) {
            builder = builder.with_disable_cpu_fallback()?;
        }
        for setup in wanted {
            builder = append(builder, runtime, setup)?;
        }
    }
    for (name, size) in options.dimensions.iter() {
        builder = builder.with_dimension_override(name, i64::try_from(size).unwrap_or(i64::MAX))?;
    }
    if !options.memory_arena {
        builder = builder.with_execution_providers([ort::ep::CPU::default().with_arena_allocator(false).build()])?;
    }
    Ok(builder)
}

/// A graph that was optimised before is taken as it is; one that is kept has its weights, as they were packed, in a file that can be
/// mapped into memory.
fn optimised(builder: SessionBuilder, optimising: Optimising<'_>) -> ort::Result<SessionBuilder> {
    Ok(match optimising {
        Optimising::Now => builder,
        Optimising::Before => builder.with_optimization_level(GraphOptimizationLevel::Disable)?,
        Optimising::Compiled(target) => builder
            .with_config_entry("ep.context_enable", "1")?
            .with_config_entry("ep.context_file_path", target.to_string_lossy())?
            // Within the file it would be bounded by the 2 GiB of a protocol buffer, and could not be mapped.
            .with_config_entry("ep.context_embed_mode", "0")?,
        Optimising::AndKept(target, weights, packed) => builder
            .with_optimized_model_path(target)?
            .with_config_entry("session.optimized_model_external_initializers_file_name", weights)?
            .with_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")?
            .with_config_entry("session.save_external_prepacked_constant_initializers", if packed { "1" } else { "0" })?,
    })
}
