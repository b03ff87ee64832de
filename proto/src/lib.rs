//! The wire: the messages, clients and servers generated from the files under `proto/`.
//!
//! Modules mirror the packages, so that `spire.api.types.Entry` is [`spire::api::types::Entry`];
//! the SPIFFE Workload API, which has no package, is [`workload`]. Nothing here knows what a message
//! means: that is for the conversions and handlers of the other crates. A message with a private key
//! or a bearer token in it prints without the secret.

#![forbid(unsafe_code)]
#![expect(clippy::excessive_nesting, reason = "packages nest, and modules mirror them")]

mod redacted;

/// The SPIFFE Workload API.
pub mod workload {
    tonic::include_proto!("_");
}

/// Google's packages.
pub mod google {
    /// Details of an error.
    pub mod rpc {
        tonic::include_proto!("google.rpc");
    }
}

/// Our own packages.
pub mod steeple {
    /// The authorities of a server.
    pub mod authority {
        /// Version 1.
        pub mod v1 {
            tonic::include_proto!("steeple.authority.v1");
        }
    }
}

/// SPIRE's packages.
pub mod spire {
    /// The admin APIs of an agent that are not under `spire.api`.
    pub mod agent {
        /// How an agent is doing.
        pub mod debug {
            /// Version 1.
            pub mod v1 {
                tonic::include_proto!("spire.agent.debug.v1");
            }
        }
    }

    /// The APIs of server and agent.
    pub mod api {
        /// What the APIs have in common.
        pub mod types {
            tonic::include_proto!("spire.api.types");
        }

        /// The APIs of an agent, on its admin socket.
        pub mod agent {
            /// Identities of other workloads, for a delegate.
            pub mod delegatedidentity {
                /// Version 1.
                pub mod v1 {
                    tonic::include_proto!("spire.api.agent.delegatedidentity.v1");
                }
            }

            /// The log level.
            pub mod logger {
                /// Version 1.
                pub mod v1 {
                    tonic::include_proto!("spire.api.agent.logger.v1");
                }
            }
        }

        /// The APIs of a server.
        pub mod server {
            /// Agents.
            pub mod agent {
                /// Version 1.
                pub mod v1 {
                    tonic::include_proto!("spire.api.server.agent.v1");
                }
            }

            /// Bundles.
            pub mod bundle {
                /// Version 1.
                pub mod v1 {
                    tonic::include_proto!("spire.api.server.bundle.v1");
                }
            }

            /// How a server is doing.
            pub mod debug {
                /// Version 1.
                pub mod v1 {
                    tonic::include_proto!("spire.api.server.debug.v1");
                }
            }

            /// Registration entries.
            pub mod entry {
                /// Version 1.
                pub mod v1 {
                    tonic::include_proto!("spire.api.server.entry.v1");
                }
            }

            /// The server's own authorities.
            pub mod localauthority {
                /// Version 1.
                pub mod v1 {
                    tonic::include_proto!("spire.api.server.localauthority.v1");
                }
            }

            /// The log level.
            pub mod logger {
                /// Version 1.
                pub mod v1 {
                    tonic::include_proto!("spire.api.server.logger.v1");
                }
            }

            /// Signing.
            pub mod svid {
                /// Version 1.
                pub mod v1 {
                    tonic::include_proto!("spire.api.server.svid.v1");
                }
            }

            /// Relationships with foreign trust domains.
            pub mod trustdomain {
                /// Version 1.
                pub mod v1 {
                    tonic::include_proto!("spire.api.server.trustdomain.v1");
                }
            }
        }
    }
}

/// All of the above as an encoded `google.protobuf.FileDescriptorSet`, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
