//! What an engine allows its pictures to take and what it expects of them, from one request to the next.

use super::Engine;
use crate::plan::{Budget, Measurements};

impl Engine {
    /// Lets forecasts come from what was measured of this bundle on this device.
    pub fn set_measurements(&mut self, measurements: Option<Measurements>) {
        self.measurements = measurements;
    }

    /// Plans of later requests keep to `budget`; networks that are open stay open.
    pub fn set_budget(&mut self, budget: Budget) {
        self.settings.budget = budget;
    }
}
