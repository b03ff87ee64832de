//! The server's certificate and token authority: what is signed, by what, and until when.

pub mod slots;
