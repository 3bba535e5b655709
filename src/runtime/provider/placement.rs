//! Where ONNX Runtime put the nodes of a graph, as its own log tells.
//!
//! A session's log of level "verbose" lists each provider with its nodes. It is the one place where a runtime from 1.22 on says so.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Provider, ShapeNodes};
use crate::runtime::one_line;

/// How many nodes of a graph each provider runs, and which operators the processor was left with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Placement {
    /// Nodes by the provider's name in ONNX Runtime. What a provider compiled into one is one node.
    nodes: Vec<(String, usize)>,
    /// Operators on the processor with the names of their nodes; empty where everything is.
    on_processor: Vec<(String, String)>,
    /// Those on other providers.
    elsewhere: Vec<(String, String)>,
}

impl Placement {
    /// Nodes that `provider` runs.
    #[must_use]
    pub fn nodes_of(&self, provider: Provider) -> usize {
        self.nodes.iter().filter(|(name, _)| name == provider.runtime_name()).map(|(_, count)| *count).sum()
    }

    /// Whether nothing is known of it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The nodes on the processor that do not compute on shapes alone, by operator and name; `None` where not each node there is known.
    pub(in crate::runtime) fn beyond(&self, shapes: &ShapeNodes) -> Option<Vec<(&str, &str)>> {
        let is_whole = self.on_processor.len() == self.nodes_of(Provider::Cpu);
        let explained = |node: &&(String, String)| {
            let left = self.on_processor.iter().filter(|other| other == node).count();
            shapes.explain(&node.0, &node.1, left, &self.elsewhere)
        };
        let nodes = self.on_processor.iter().filter(|node| !explained(node));
        is_whole.then(|| nodes.map(|(operator, name)| (operator.as_str(), name.as_str())).collect())
    }

    /// The operators on the processor as text, the commonest first, such as `Cast 3, Range 1`.
    #[must_use]
    pub fn on_processor_text(&self) -> String {
        const SHOWN: usize = 5;
        let mut of: BTreeMap<&str, usize> = BTreeMap::new();
        self.on_processor.iter().for_each(|(operator, _)| *of.entry(operator).or_default() += 1);
        let mut counts: Vec<(&&str, &usize)> = of.iter().collect();
        counts.sort_by_key(|(operator, count)| (std::cmp::Reverse(**count), *operator));
        let mut text: Vec<String> = counts.iter().take(SHOWN).map(|(operator, count)| format!("{operator} {count}")).collect();
        if counts.len() > SHOWN {
            text.push("…".into());
        }
        if text.is_empty() { "all kinds".to_owned() } else { text.join(", ") }
    }

    /// The providers that run something, the one with the most nodes first, such as `openvino+cpu`; `None` where that is not known.
    #[must_use]
    pub fn providers_text(&self) -> Option<String> {
        let word = |name: &str| Provider::of_runtime_name(name).map_or_else(|| name.to_owned(), |provider| provider.to_string());
        // The processor stands last: it has what the others left.
        let mut nodes: Vec<_> = self.nodes.iter().filter(|(_, count)| *count > 0).collect();
        nodes.sort_by_key(|(name, count)| (name == Provider::Cpu.runtime_name(), std::cmp::Reverse(*count)));
        (!nodes.is_empty()).then(|| nodes.iter().map(|(name, _)| word(name)).collect::<Vec<_>>().join("+"))
    }

    /// Everything on the processor, as it is where nobody asked for more.
    pub(in crate::runtime) fn on_processor() -> Self {
        Self { nodes: vec![(Provider::Cpu.runtime_name().to_owned(), 1)], ..Self::default() }
    }
}

/// Reads placements out of the log of a session while it is opened.
#[derive(Clone, Default)]
pub(in crate::runtime) struct PlacementLog {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    placement: Placement,
    /// The provider whose nodes are being listed.
    current: Option<String>,
    /// What went wrong.
    errors: Vec<String>,
}

/// Errors that are worth telling; later ones follow from the first.
const MOST_ERRORS: usize = 2;
/// What ONNX Runtime says where nodes were left to the processor and that was refused, whoever left them.
pub(in crate::runtime) const LEFT_TO_PROCESSOR: &str = "fallback to CPU EP has been explicitly disabled";

impl PlacementLog {
    /// Takes one message, of an error or not.
    pub(in crate::runtime) fn note(&self, is_error: bool, message: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if is_error {
            let message = one_line(message);
            // The same error is told again by each layer that it passes.
            let is_new = !state.errors.iter().any(|known| message.contains(known.as_str()));
            if is_new && !message.contains(LEFT_TO_PROCESSOR) && state.errors.len() < MOST_ERRORS {
                state.errors.push(message);
            }
            return;
        }
        if let Some((name, count)) = heading(message) {
            state.current = Some(name.to_owned());
            state.placement.nodes.push((name.to_owned(), count));
            return;
        }
        let Some((operator, name)) = message.strip_prefix("  ").and_then(|line| line.split_once(" (")) else {
            state.current = None;
            return;
        };
        let Some(current) = state.current.as_deref() else { return };
        let is_processor = current == Provider::Cpu.runtime_name();
        let node = (operator.to_owned(), name.strip_suffix(')').unwrap_or(name).to_owned());
        let Placement { on_processor, elsewhere, .. } = &mut state.placement;
        (if is_processor { on_processor } else { elsewhere }).push(node);
    }

    /// What went wrong in ONNX Runtime's own words, behind a colon; nothing where it said nothing.
    pub(in crate::runtime) fn errors_text(&self) -> String {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.errors.is_empty() { String::new() } else { format!(": {}", state.errors.join("; ")) }
    }

    /// What was read.
    pub(in crate::runtime) fn placement(&self) -> Placement {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).placement.clone()
    }
}

/// Reads ` Node(s) placed on [NAME]. Number of nodes: N`.
fn heading(message: &str) -> Option<(&str, usize)> {
    let (_, rest) = message.split_once("odes placed on [").or_else(|| message.split_once("ode(s) placed on ["))?;
    let (name, rest) = rest.split_once(']')?;
    let (_, count) = rest.rsplit_once(": ")?;
    Some((name, count.trim().parse().ok()?))
}

impl fmt::Display for Placement {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.providers_text().as_deref().unwrap_or("not known"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Placement {
        let log = PlacementLog::default();
        lines.iter().for_each(|line| log.note(false, line));
        log.placement()
    }

    #[test]
    fn errors_are_told_once() {
        let log = PlacementLog::default();
        assert_eq!(log.errors_text(), "");
        for line in
            ["no\nbackend", "failed with error: no backend", "This: fallback to CPU EP has been explicitly disabled by", "b", "c"]
        {
            log.note(true, line);
        }
        assert_eq!(log.errors_text(), ": no backend; b");
    }

    #[test]
    fn the_log_tells_who_runs_what() {
        let mixed = read(&[
            "Node placements",
            " Node(s) placed on [CPUExecutionProvider]. Number of nodes: 3",
            "  Cast (/a/Cast)",
            "  Cast ()",
            "  Range (r)",
            " Node(s) placed on [OpenVINOExecutionProvider]. Number of nodes: 1",
            "  OpenVINOExecutionProvider_subgraph_1 (x)",
            "SaveMLValueNameIndexMapping",
        ]);
        assert_eq!(
            (mixed.nodes_of(Provider::Cpu), mixed.nodes_of(Provider::OpenVino), mixed.nodes_of(Provider::Cuda)),
            (3, 1, 0)
        );
        assert_eq!((mixed.to_string(), mixed.on_processor_text()), ("openvino+cpu".into(), "Cast 2, Range 1".into()));
        let none = ShapeNodes::default();
        assert_eq!(mixed.beyond(&none).unwrap(), [("Cast", "/a/Cast"), ("Cast", ""), ("Range", "r")]);
        let whole = read(&[" All nodes placed on [CPUExecutionProvider]. Number of nodes: 52"]);
        assert_eq!((whole.to_string(), whole.nodes_of(Provider::Cpu)), ("cpu".into(), 52));
        assert!(whole.beyond(&none).is_none(), "its nodes are not listed");
        assert!(read(&["", "[]", "placed on [", " Node(s) placed on [x]. Number of nodes: y"]).is_empty());
    }
}
