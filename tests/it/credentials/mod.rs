//! Logins that change while a service runs.

mod failing;
mod files;
mod open_pools;
mod rotation;
mod set;
mod vault;
