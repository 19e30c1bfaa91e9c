//! Who asks, and what he may: credentials, tags, access to virtual hosts.
//!
//! In: a request's headers and peer. Out: a [`Caller`] of at least the asked standing, or the 401 that RabbitMQ gives
//! (`rabbit_web_dispatch_access_control`). What is done with it is not known here.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header;
use axum::http::request::Parts;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::State;
use super::answer::ApiError;
use super::logins::LoginError;
use crate::auth::User;
use crate::broker::{Broker, DirectConnection, Vhost};

/// The client's address, put into each request by the server.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// A user with one of the tags that open the API.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The user.
    pub user: Arc<User>,
    /// Where he asks from.
    pub peer: SocketAddr,
    /// What the API works on.
    pub state: State,
    /// The virtual host of the header `x-vhost`: lists show it alone.
    header_vhost: Option<String>,
}

impl Caller {
    /// The broker.
    pub fn broker(&self) -> &Arc<Broker> {
        self.state.broker()
    }

    /// Whether he may do everything.
    pub fn is_administrator(&self) -> bool {
        self.user.has_tag("administrator")
    }

    /// Whether he may see everything.
    pub fn is_monitor(&self) -> bool {
        self.is_administrator() || self.user.has_tag("monitoring")
    }

    /// Whether he may set policies and parameters.
    pub fn is_policymaker(&self) -> bool {
        self.is_administrator() || self.user.has_tag("policymaker")
    }

    /// Whether he has permissions in a virtual host.
    pub fn can_enter(&self, vhost: &Vhost) -> bool {
        let directory = self.broker().directory();
        directory.access(&self.user.name, &vhost.name).is_ok()
    }

    /// Whether lists show him a virtual host.
    pub fn can_see(&self, vhost: &Vhost) -> bool {
        self.is_monitor() || self.can_enter(vhost)
    }

    /// A virtual host to look at.
    ///
    /// # Errors
    /// 404 when it is missing, or closed to him.
    pub fn vhost_to_see(&self, name: &str) -> Result<Arc<Vhost>, ApiError> {
        let vhost = self
            .broker()
            .vhost(name)
            .ok_or_else(ApiError::object_not_found)?;
        if self.can_see(&vhost) {
            Ok(vhost)
        } else {
            Err(ApiError::not_found("Not Found"))
        }
    }

    /// A virtual host to change something in that must be there already.
    ///
    /// # Errors
    /// 404 when it is missing, or closed to him.
    pub fn vhost_to_change(&self, name: &str) -> Result<Arc<Vhost>, ApiError> {
        let vhost = self
            .broker()
            .vhost(name)
            .ok_or_else(ApiError::object_not_found)?;
        if self.is_administrator() || self.can_enter(&vhost) {
            Ok(vhost)
        } else {
            Err(ApiError::not_found("Not Found"))
        }
    }

    /// A virtual host to declare something in.
    ///
    /// # Errors
    /// As [`Caller::vhost_to_change`], with the reason `vhost_not_found` for a missing one.
    pub fn vhost_to_declare_in(&self, name: &str) -> Result<Arc<Vhost>, ApiError> {
        if self.broker().vhost(name).is_none() {
            return Err(ApiError::not_found("vhost_not_found"));
        }
        self.vhost_to_change(name)
    }

    /// A virtual host whose policies and parameters he may change.
    ///
    /// # Errors
    /// 401 without the tag, 404 when it is missing or closed to him.
    pub fn vhost_to_rule(&self, name: &str) -> Result<Arc<Vhost>, ApiError> {
        if !self.is_policymaker() {
            return Err(ApiError::not_authorised(
                "User not authorised to access object",
            ));
        }
        self.vhost_to_change(name)
    }

    /// The virtual hosts that a list covers: the one of the path, or the one of the header, or all that he sees. Sorted.
    ///
    /// # Errors
    /// As [`Caller::vhost_to_see`].
    pub fn vhosts(&self, of_path: Option<&str>) -> Result<Vec<Arc<Vhost>>, ApiError> {
        if let Some(name) = of_path.or(self.header_vhost.as_deref()) {
            return Ok(vec![self.vhost_to_see(name)?]);
        }
        let mut vhosts = self.broker().vhosts();
        vhosts.retain(|vhost| self.can_see(vhost));
        Ok(vhosts)
    }

    /// A connection of his to a virtual host, for commands with his permissions.
    ///
    /// # Errors
    /// 401 when he has none there.
    pub fn direct(&self, vhost: &Arc<Vhost>) -> Result<DirectConnection, ApiError> {
        self.broker()
            .direct(Arc::clone(&self.user), Arc::clone(vhost), self.peer)
            .map_err(ApiError::of_command)
    }

    /// The virtual host of the header `x-vhost`.
    pub fn header_vhost(&self) -> Option<&str> {
        self.header_vhost.as_deref()
    }

    /// 401 unless he may see what belongs to `owner`: his own, or all of a monitor.
    ///
    /// # Errors
    /// 401.
    pub fn check_sees(&self, owner: &str) -> Result<(), ApiError> {
        self.check_owner(owner, self.is_monitor())
    }

    /// 401 unless he may end what belongs to `owner`: his own, or all of an administrator.
    ///
    /// # Errors
    /// 401.
    pub fn check_ends(&self, owner: &str) -> Result<(), ApiError> {
        self.check_owner(owner, self.is_administrator())
    }

    fn check_owner(&self, owner: &str, is_allowed: bool) -> Result<(), ApiError> {
        if is_allowed || *self.user.name == *owner {
            return Ok(());
        }
        Err(ApiError::not_authorised(
            "User not authorised to access object",
        ))
    }
}

async fn authenticate(parts: &Parts, state: &State) -> Result<Caller, ApiError> {
    let peer = parts
        .extensions
        .get::<Peer>()
        .ok_or_else(|| ApiError::internal("a request without a peer"))?
        .0;
    let header = parts
        .headers
        .get(header::AUTHORIZATION)
        .ok_or_else(ApiError::no_credentials)?;
    let (scheme, value) = header
        .to_str()
        .ok()
        .and_then(|header| header.trim().split_once(' '))
        .ok_or_else(ApiError::wrong_credentials)?;
    let value = value.trim();
    let logins = state.logins();
    let user = if scheme.eq_ignore_ascii_case("basic") {
        let decoded = STANDARD
            .decode(value)
            .map_err(|_| ApiError::wrong_credentials())?;
        let text = String::from_utf8(decoded).map_err(|_| ApiError::wrong_credentials())?;
        let (name, password) = text
            .split_once(':')
            .ok_or_else(ApiError::wrong_credentials)?;
        logins
            .check_password(name, password.as_bytes(), peer.ip())
            .await
    } else if scheme.eq_ignore_ascii_case("bearer") {
        logins.check_session(value)
    } else {
        return Err(ApiError::no_credentials());
    };
    state.count_login(user.is_ok());
    let user = user.map_err(|error| match error {
        LoginError::Wrong => {
            tracing::warn!(target: "haremq::auth", %peer, "HTTP access denied: wrong credentials");
            ApiError::wrong_credentials()
        }
        LoginError::LoopbackOnly => {
            tracing::warn!(target: "haremq::auth", %peer, "HTTP access denied: a user of loopback addresses");
            ApiError::not_authorised("User can only log in via localhost")
        }
    })?;
    check_may_manage(&user)?;
    let header_vhost = parts
        .headers
        .get("x-vhost")
        .and_then(|vhost| vhost.to_str().ok())
        .filter(|vhost| !vhost.is_empty())
        .map(str::to_owned);
    Ok(Caller {
        user,
        peer,
        state: state.clone(),
        header_vhost,
    })
}

/// Tags that open the HTTP API to a user (RabbitMQ's document "Management Plugin", permissions).
const MANAGEMENT_TAGS: [&str; 4] = ["administrator", "monitoring", "policymaker", "management"];

/// 401 without a tag of the management.
///
/// # Errors
/// 401.
pub fn check_may_manage(user: &User) -> Result<(), ApiError> {
    if MANAGEMENT_TAGS.iter().any(|tag| user.has_tag(tag)) {
        return Ok(());
    }
    Err(ApiError::not_authorised("Not management user"))
}

impl FromRequestParts<State> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, ApiError> {
        authenticate(parts, state).await
    }
}

macro_rules! standing {
    ($(#[$doc:meta])* $name:ident, $holds:ident, $reason:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $name(pub Caller);

        impl FromRequestParts<State> for $name {
            type Rejection = ApiError;

            async fn from_request_parts(
                parts: &mut Parts,
                state: &State,
            ) -> Result<Self, ApiError> {
                let caller = authenticate(parts, state).await?;
                if caller.$holds() {
                    Ok(Self(caller))
                } else {
                    Err(ApiError::not_authorised($reason))
                }
            }
        }
    };
}

standing!(
    /// A caller with the tag `administrator`.
    Administrator,
    is_administrator,
    "Not administrator user"
);
standing!(
    /// A caller with the tag `monitoring` or above.
    Monitor,
    is_monitor,
    "Not monitor user"
);
standing!(
    /// A caller with the tag `policymaker` or above.
    Policymaker,
    is_policymaker,
    "User not authorised to access object"
);
