//! Values that clients of Stable Diffusion web UI send of themselves.
//!
//! Such a client always sends steps, a sampler, a guidance scale and a size, whether a person chose them or not. Where a model cannot
//! take one that is web UI's own default, the model's own stands in its place. What is no default was chosen by somebody, and is
//! refused as ever.

use crate::server::dispatcher::Dispatcher;
use crate::server::problem::{Code, Problem};
use crate::server::wish::{Attachments, Wish};

const STEPS: [usize; 2] = [20, 50];
const SAMPLERS: [&str; 2] = ["euler-ancestral", "euler"];
const GUIDANCE: f32 = 7.0;
const SIZE: &str = "512x512";
const STRENGTH: f32 = 0.75;

/// Leaves those defaults out of `wish` that its model does not take.
pub(super) fn give_way(dispatcher: &Dispatcher, mut wish: Wish, attachments: &Attachments) -> Wish {
    while let Err(problem) = dispatcher.plan(&wish, attachments) {
        if !give_way_to(&problem, &mut wish) {
            break;
        }
    }
    wish
}

/// Leaves out the value that `problem` is about, which its first word names, if that is a default; returns whether it did.
fn give_way_to(problem: &Problem, wish: &mut Wish) -> bool {
    if problem.code != Code::Refused {
        return false;
    }
    match problem.message.split(':').next() {
        Some("steps") => wish.steps.take_if(|steps| STEPS.contains(steps)).is_some(),
        Some("sampler") => wish.sampler.take_if(|sampler| SAMPLERS.contains(&sampler.as_str())).is_some(),
        Some("guidance") => wish.guidance.take_if(|guidance| *guidance == GUIDANCE).is_some(),
        Some("strength") => wish.strength.take_if(|strength| *strength == STRENGTH).is_some(),
        Some("size") => wish.size.take_if(|size| size == SIZE).is_some(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_give_way_and_what_was_chosen_stays() {
        let defaults = || Wish {
            steps: Some(20),
            sampler: Some("euler-ancestral".into()),
            guidance: Some(7.0),
            size: Some("512x512".into()),
            strength: Some(0.75),
            ..Wish::default()
        };
        let chosen = || Wish {
            steps: Some(21),
            sampler: Some("heun".into()),
            guidance: Some(7.5),
            size: Some("512x576".into()),
            strength: Some(0.7),
            ..Wish::default()
        };
        for name in ["steps", "sampler", "guidance", "size", "strength"] {
            let problem = Problem::new(Code::Refused, format!("{name}: is not for this model"));
            let mut wish = defaults();
            assert!(give_way_to(&problem, &mut wish), "{name}");
            let left = [
                wish.steps.is_some(),
                wish.sampler.is_some(),
                wish.guidance.is_some(),
                wish.size.is_some(),
                wish.strength.is_some(),
            ];
            assert_eq!(left.iter().filter(|there| **there).count(), 4, "{name}");
            assert!(!give_way_to(&problem, &mut wish), "{name} gives way once");
            let mut wish = chosen();
            assert!(!give_way_to(&problem, &mut wish), "{name}");
            assert_eq!(wish, chosen());
        }
        let other = Problem::new(Code::Policy, "steps: of another kind");
        assert!(!give_way_to(&other, &mut defaults()));
    }
}
