//! The users of every cluster. Their passwords are no secrets: they guard data made a moment ago.

/// The application's user: owns the database `shop` and nothing else.
pub(crate) const APP: &str = "shop";
pub(crate) const APP_PASSWORD: &str = "s3cret-shop";
/// A user with every privilege, as too many applications have.
pub(crate) const ADMIN: &str = "shop_admin";
pub(crate) const ADMIN_PASSWORD: &str = "s3cret-admin";
/// The database of both users.
pub(crate) const DATABASE: &str = "shop";
