//! Which entries there are, who is authorised for which, and which a caller asked for. Pure: a
//! function of the entries given, without I/O and without time.

pub mod authorized;
pub mod filter;
mod group;
pub mod index;
