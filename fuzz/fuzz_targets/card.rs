//! The card, `kiln.toml`: any text is read or refused.

#![no_main]

use kiln::bundle::Card;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(card) = Card::parse(text) {
        assert!(!card.name.is_empty() && !card.name.contains('/'));
        assert!(card.sha256.keys().all(|file| !file.starts_with('/') && !file.split('/').any(|part| part == "..")));
    }
});
