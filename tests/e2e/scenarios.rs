//! What SPIRE's own integration suites check, with our binaries. `tests/scenarios.txt` has the whole
//! list; the scenarios that are about one part of Steeple are tested beside that part.

#[path = "scenarios/command_line.rs"]
mod command_line;
#[path = "scenarios/entries.rs"]
mod entries;
#[path = "scenarios/fetching.rs"]
mod fetching;
#[path = "scenarios/fleet.rs"]
mod fleet;
#[path = "scenarios/joining.rs"]
mod joining;
