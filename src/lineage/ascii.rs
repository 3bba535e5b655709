//! Formulas and names for terminals that show ASCII alone: each letter beyond it is called by its name.

/// Names the letters of `text` that are not ASCII; one without a name becomes `?`.
pub(super) fn named(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for letter in text.chars() {
        match NAMES.iter().find(|(named, _)| *named == letter) {
            _ if letter.is_ascii() => plain.push(letter),
            Some((_, name)) => plain.push_str(name),
            // A combining mark falls away; its letter stays.
            None if ('\u{300}'..'\u{370}').contains(&letter) => {}
            None => plain.push('?'),
        }
    }
    plain
}

/// A letter and what it is called.
const NAMES: [(char, &str); 84] = [
    ('α', "alpha"),
    ('β', "beta"),
    ('γ', "gamma"),
    ('ε', "eps"),
    ('η', "eta"),
    ('θ', "theta"),
    ('λ', "lambda"),
    ('μ', "mu"),
    ('σ', "sigma"),
    ('τ', "tau"),
    ('ψ', "psi"),
    ('Δ', "Delta"),
    ('Σ', "Sigma"),
    ('∇', "grad "),
    ('∂', "d"),
    ('∫', "integral "),
    ('√', "sqrt "),
    ('∝', "~"),
    ('≈', "~"),
    ('≤', "<="),
    ('≥', ">="),
    ('→', "->"),
    ('←', "<-"),
    ('−', "-"),
    ('–', "-"),
    ('×', "x"),
    ('·', "*"),
    ('⊙', "*"),
    ('‖', "|"),
    ('⟨', "<"),
    ('⟩', ">"),
    ('′', "'"),
    ('…', "..."),
    ('½', "1/2 "),
    ('²', "^2"),
    ('ᵀ', "^T"),
    ('ʰ', "^h"),
    ('⁺', "^+"),
    ('¹', "^1"),
    ('₀', "_0"),
    ('₁', "_1"),
    ('₂', "_2"),
    ('₊', "+"),
    ('₋', "-"),
    ('ᵢ', "_i"),
    ('ⱼ', "_j"),
    ('ₖ', "_k"),
    ('ₙ', "_n"),
    ('ₛ', "_s"),
    ('ₜ', "_t"),
    ('ᵤ', "_u"),
    ('ᾱ', "alpha'"),
    ('ä', "ae"),
    ('ö', "oe"),
    ('ü', "ue"),
    ('é', "e"),
    ('ẑ', "z^"),
    ('φ', "phi"),
    ('π', "pi"),
    ('ρ', "rho"),
    ('ω', "omega"),
    ('Ω', "Omega"),
    ('Λ', "Lambda"),
    ('Φ', "Phi"),
    ('Ψ', "Psi"),
    ('Γ', "Gamma"),
    ('Θ', "Theta"),
    ('δ', "delta"),
    ('κ', "kappa"),
    ('ν', "nu"),
    ('ξ', "xi"),
    ('χ', "chi"),
    ('ζ', "zeta"),
    ('∈', " in "),
    ('∞', "infinity"),
    ('≠', "!="),
    ('∘', " o "),
    ('³', "^3"),
    ('₃', "_3"),
    ('ß', "ss"),
    ('à', "a"),
    ('è', "e"),
    ('ó', "o"),
    ('—', "-"),
];

#[cfg(test)]
mod tests {
    use super::super::tree::Tree;
    use super::named;

    #[test]
    fn every_letter_of_the_carried_tree_has_a_name() {
        let tree = Tree::carried().unwrap();
        for algorithm in tree.algorithms() {
            let paper = &algorithm.paper;
            for text in [&algorithm.title, &algorithm.formula, &algorithm.story, &algorithm.changed, &paper.authors, &paper.title]
            {
                assert!(!named(text).contains('?') || text.contains('?'), "{text}: {}", named(text));
                assert!(named(text).is_ascii());
            }
        }
    }

    #[test]
    fn letters_are_called_by_their_names() {
        assert_eq!(named("∇log p(x̂ₜ|θ) − ½σ²"), "grad log p(x_t|theta) - 1/2 sigma^2");
        assert_eq!(named("漢"), "?");
    }
}
