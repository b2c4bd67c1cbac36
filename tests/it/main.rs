//! Tests against real servers and scripted nodes. One binary: linking it is most of its cost.

mod architecture;
mod item;
mod pooling_proxy;
mod scripted;
mod servers;
mod smoke;
