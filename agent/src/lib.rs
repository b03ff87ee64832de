//! The Steeple agent.
