//! Tests against real servers and scripted nodes. One binary: linking it is most of its cost.

mod arbiter;
mod architecture;
mod catalogue;
mod config;
mod corpus;
mod drop_in;
mod equivalence;
mod files;
mod freshness;
mod item;
mod lost_nodes;
mod mysql;
mod pooling_proxy;
mod read_only;
mod scripted;
mod secrets;
mod servers;
mod sessions;
mod share;
mod simulation;
mod surface;
mod swap;
mod tower;
mod wait;
mod who;
