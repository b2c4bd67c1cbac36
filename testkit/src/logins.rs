//! The users every cluster has. Their passwords are no secrets: they guard data made a moment ago.

/// The application: owns the database `shop` and nothing else.
pub(crate) const APP: &str = "shop";
pub(crate) const APP_PASSWORD: &str = "s3cret-shop";
/// May do everything, as too many applications may.
pub(crate) const ADMIN: &str = "shop_admin";
pub(crate) const ADMIN_PASSWORD: &str = "s3cret-admin";
/// The database of both.
pub(crate) const DATABASE: &str = "shop";
