//! All users and permissions of the node, in memory.
//!
//! In: users and permissions as they are loaded, set and removed; logins. Out: who logged in, rights in a
//! virtual host, an epoch that moves with every change. It does not store anything and does not know which
//! virtual hosts exist.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

use super::mechanisms::{self, Credentials, LoginFailure, Mechanism};
use super::permissions::{Rights, TopicRights};
use super::{Access, PasswordHash, Permission, PermissionError, TopicPermission, User};
use crate::model::{Name, Refusal};

/// How logins are judged.
#[derive(Clone, Debug)]
pub struct AuthSettings {
    /// Mechanisms on offer, in this order.
    pub mechanisms: Vec<Mechanism>,
    /// Users that may come from a loopback address only (`loopback_users`).
    pub loopback_users: Vec<String>,
    /// The user behind ANONYMOUS (`anonymous_login_user`), or `None` to not offer it.
    pub anonymous_user: Option<String>,
    /// Its password (`anonymous_login_pass`).
    pub anonymous_password: Option<String>,
}

impl Default for AuthSettings {
    /// RabbitMQ's defaults.
    fn default() -> Self {
        Self {
            mechanisms: Mechanism::ALL.to_vec(),
            loopback_users: vec!["guest".to_owned()],
            anonymous_user: Some("guest".to_owned()),
            anonymous_password: Some("guest".to_owned()),
        }
    }
}

/// Users and permissions. Shared by all connections; every question takes a short read lock at most.
#[derive(Debug)]
pub struct Directory {
    settings: AuthSettings,
    state: RwLock<State>,
    epoch: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    users: BTreeMap<Name, Arc<User>>,
    /// By user, then by virtual host.
    rights: BTreeMap<Name, BTreeMap<Name, VhostRights>>,
}

/// What is set for one user in one virtual host.
#[derive(Clone, Debug, Default)]
pub(super) struct VhostRights {
    pub(super) names: Option<Arc<Rights>>,
    /// By exchange.
    pub(super) topics: Arc<BTreeMap<Name, Arc<TopicRights>>>,
}

impl VhostRights {
    fn is_empty(&self) -> bool {
        self.names.is_none() && self.topics.is_empty()
    }
}

impl Directory {
    /// A directory without users.
    pub fn new(settings: AuthSettings) -> Self {
        Self {
            settings,
            state: RwLock::default(),
            epoch: AtomicU64::new(1),
        }
    }

    /// Takes in what the store holds. A permission that cannot be compiled is left out, so that the right is
    /// not given, and comes back for the log.
    pub fn load(
        &self,
        users: impl IntoIterator<Item = User>,
        permissions: impl IntoIterator<Item = Permission>,
        topic_permissions: impl IntoIterator<Item = TopicPermission>,
    ) -> Vec<PermissionError> {
        users.into_iter().for_each(|user| self.put_user(user));
        let refused = permissions
            .into_iter()
            .filter_map(|permission| self.put_permission(permission).err());
        let refused_topics = topic_permissions
            .into_iter()
            .filter_map(|permission| self.put_topic_permission(permission).err());
        refused.chain(refused_topics).collect()
    }

    /// Names of the mechanisms on offer, separated by spaces, as `connection.start` has them.
    pub fn mechanism_names(&self) -> String {
        let names: Vec<_> = Mechanism::ALL
            .into_iter()
            .filter(|mechanism| self.offers(*mechanism))
            .map(Mechanism::name)
            .collect();
        names.join(" ")
    }

    /// A number that moves with every change of a user or a permission. Whoever remembers a decision under
    /// it must forget the decision when the number differs.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Logs in with a SASL response. `peer_is_loopback` tells whether the peer's address is one of this
    /// machine's loopback addresses.
    ///
    /// # Errors
    /// [`LoginFailure`] says what the log and the client are told.
    pub fn authenticate(
        &self,
        mechanism: &str,
        response: &[u8],
        peer_is_loopback: bool,
    ) -> Result<Arc<User>, LoginFailure> {
        let known = Mechanism::from_name(mechanism)
            .filter(|known| self.offers(*known))
            .ok_or_else(|| LoginFailure::UnknownMechanism {
                mechanism: mechanism.to_owned(),
            })?;
        let credentials = match known {
            Mechanism::Plain => mechanisms::plain(response)?,
            Mechanism::Amqplain => mechanisms::amqplain(response)?,
            Mechanism::Anonymous => Credentials {
                user: self.settings.anonymous_user.clone().unwrap_or_default(),
                password: self
                    .settings
                    .anonymous_password
                    .clone()
                    .unwrap_or_default()
                    .into_bytes(),
            },
        };
        self.log_in(
            mechanism,
            &credentials.user,
            &credentials.password,
            peer_is_loopback,
        )
    }

    /// Logs in with a name and a password (HTTP).
    ///
    /// # Errors
    /// [`LoginFailure::Refused`].
    pub fn check_password(
        &self,
        user: &str,
        password: &[u8],
        peer_is_loopback: bool,
    ) -> Result<Arc<User>, LoginFailure> {
        self.log_in("password", user, password, peer_is_loopback)
    }

    /// Whether a user may come from loopback addresses alone.
    pub fn is_loopback_only(&self, user: &str) -> bool {
        self.settings.loopback_users.iter().any(|name| name == user)
    }

    fn log_in(
        &self,
        mechanism: &str,
        name: &str,
        password: &[u8],
        peer_is_loopback: bool,
    ) -> Result<Arc<User>, LoginFailure> {
        let refuse = |reason: String| {
            Err(LoginFailure::Refused {
                mechanism: mechanism.to_owned(),
                user: name.to_owned(),
                reason,
            })
        };
        if password.is_empty() {
            return refuse(format!(
                "user '{name}' attempted to log in with a blank password, which is prohibited"
            ));
        }
        let user = self.user(name);
        let is_right = match &user {
            Some(user) => user.password.verify(password),
            None => {
                PasswordHash::spend_time_of_verify(password);
                false
            }
        };
        match user {
            Some(user) if is_right => {
                if !peer_is_loopback && self.is_loopback_only(name) {
                    return refuse(format!("user '{name}' can only connect via localhost"));
                }
                Ok(user)
            }
            _ => refuse(format!("user '{name}' - invalid credentials")),
        }
    }

    fn offers(&self, mechanism: Mechanism) -> bool {
        self.settings.mechanisms.contains(&mechanism)
            && (mechanism != Mechanism::Anonymous
                || (self.settings.anonymous_user.is_some()
                    && self.settings.anonymous_password.is_some()))
    }

    /// The rights of `user` in `vhost`, for `connection.open`. That the virtual host exists is for the
    /// caller to know.
    ///
    /// # Errors
    /// 530 `access to vhost 'X' refused for user 'u'` if he has no permission there.
    pub fn access(self: &Arc<Self>, user: &Name, vhost: &Name) -> Result<Access, Refusal> {
        let mut access = Access::new(Arc::clone(self), user.clone(), vhost.clone());
        if access.is_open() {
            Ok(access)
        } else {
            Err(Refusal::not_allowed(format!(
                "access to vhost '{vhost}' refused for user '{user}'"
            )))
        }
    }

    pub(super) fn rights(&self, user: &str, vhost: &str) -> Option<VhostRights> {
        let state = self.state.read();
        state.rights.get(user)?.get(vhost).cloned()
    }

    /// A user by name.
    pub fn user(&self, name: &str) -> Option<Arc<User>> {
        self.state.read().users.get(name).cloned()
    }

    /// All users, in the order of their names.
    pub fn users(&self) -> Vec<Arc<User>> {
        self.state.read().users.values().cloned().collect()
    }

    /// Adds a user or replaces one; permissions stay.
    pub fn put_user(&self, user: User) {
        self.change(|state| {
            state.users.insert(user.name.clone(), Arc::new(user));
        });
    }

    /// Removes a user and all permissions of his. Tells whether there was one.
    pub fn remove_user(&self, name: &str) -> bool {
        self.change(|state| {
            state.rights.remove(name);
            state.users.remove(name).is_some()
        })
    }

    /// Sets a permission.
    ///
    /// # Errors
    /// A pattern that does not compile; nothing is changed then.
    pub fn put_permission(&self, permission: Permission) -> Result<(), PermissionError> {
        let rights = Arc::new(Rights::compile(permission)?);
        self.change(|state| {
            let (user, vhost) = (rights.set.user.clone(), rights.set.vhost.clone());
            state.slot(user, vhost).names = Some(rights);
        });
        Ok(())
    }

    /// Takes a permission away. Tells whether there was one.
    pub fn remove_permission(&self, user: &str, vhost: &str) -> bool {
        self.change(|state| {
            let removed = state
                .slot_if_any(user, vhost)
                .is_some_and(|slot| slot.names.take().is_some());
            state.sweep(user);
            removed
        })
    }

    /// Sets a topic permission.
    ///
    /// # Errors
    /// A pattern that does not compile; nothing is changed then.
    pub fn put_topic_permission(&self, permission: TopicPermission) -> Result<(), PermissionError> {
        let rights = Arc::new(TopicRights::compile(permission)?);
        self.change(|state| {
            let (user, vhost) = (rights.set.user.clone(), rights.set.vhost.clone());
            let topics = &mut state.slot(user, vhost).topics;
            Arc::make_mut(topics).insert(rights.set.exchange.clone(), rights);
        });
        Ok(())
    }

    /// Takes a topic permission away, or with no exchange named all of the user in that virtual host. Tells
    /// whether there was one.
    pub fn remove_topic_permission(&self, user: &str, vhost: &str, exchange: Option<&str>) -> bool {
        self.change(|state| {
            let removed = state.slot_if_any(user, vhost).is_some_and(|slot| {
                let before = slot.topics.len();
                Arc::make_mut(&mut slot.topics)
                    .retain(|own, _| exchange.is_some_and(|exchange| **own != *exchange));
                slot.topics.len() < before
            });
            state.sweep(user);
            removed
        })
    }

    /// Removes every permission in a virtual host that is no more.
    pub fn remove_vhost(&self, vhost: &str) {
        self.change(|state| {
            for vhosts in state.rights.values_mut() {
                vhosts.remove(vhost);
            }
            state.rights.retain(|_, vhosts| !vhosts.is_empty());
        });
    }

    /// What a user may do in a virtual host, as it was set.
    pub fn permission(&self, user: &str, vhost: &str) -> Option<Permission> {
        let rights = self.rights(user, vhost)?;
        rights.names.map(|names| names.set.clone())
    }

    /// All permissions, by user, then by virtual host.
    pub fn permissions(&self) -> Vec<Permission> {
        let state = self.state.read();
        let rights = state.rights.values().flat_map(BTreeMap::values);
        rights
            .filter_map(|rights| rights.names.as_ref())
            .map(|names| names.set.clone())
            .collect()
    }

    /// All topic permissions, by user, virtual host and exchange.
    pub fn topic_permissions(&self) -> Vec<TopicPermission> {
        let state = self.state.read();
        let rights = state.rights.values().flat_map(BTreeMap::values);
        rights
            .flat_map(|rights| rights.topics.values())
            .map(|topic| topic.set.clone())
            .collect()
    }

    /// Changes the state, then moves the epoch, so that whoever sees the new number sees the new state.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.write();
        let result = change(&mut state);
        self.epoch.fetch_add(1, Ordering::AcqRel);
        result
    }
}

impl State {
    fn slot(&mut self, user: Name, vhost: Name) -> &mut VhostRights {
        self.rights
            .entry(user)
            .or_default()
            .entry(vhost)
            .or_default()
    }

    fn slot_if_any(&mut self, user: &str, vhost: &str) -> Option<&mut VhostRights> {
        self.rights.get_mut(user)?.get_mut(vhost)
    }

    /// Drops what became empty, so that removed permissions leave nothing behind.
    fn sweep(&mut self, user: &str) {
        if let Some(vhosts) = self.rights.get_mut(user) {
            vhosts.retain(|_, rights| !rights.is_empty());
            if vhosts.is_empty() {
                self.rights.remove(user);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::auth::{HashingAlgorithm, Operation, Resource};
    use crate::model::Scope;

    fn user(name: &str, password: &str) -> User {
        User {
            password: PasswordHash::create(HashingAlgorithm::Sha256, password.as_bytes()).unwrap(),
            ..User::new(name)
        }
    }

    fn permission(user: &str, configure: &str, write: &str, read: &str) -> Permission {
        Permission {
            user: user.into(),
            vhost: "/".into(),
            configure: configure.to_owned(),
            write: write.to_owned(),
            read: read.to_owned(),
        }
    }

    fn topic(exchange: &str, write: &str, read: &str) -> TopicPermission {
        TopicPermission {
            user: "u".into(),
            vhost: "/".into(),
            exchange: exchange.into(),
            write: write.to_owned(),
            read: read.to_owned(),
        }
    }

    fn directory(permissions: [Permission; 1]) -> Arc<Directory> {
        let directory = Directory::new(AuthSettings::default());
        let users = [user("guest", "guest"), user("u", "pw")];
        assert_eq!(directory.load(users, permissions, []), []);
        Arc::new(directory)
    }

    fn access(directory: &Arc<Directory>) -> Access {
        directory.access(&"u".into(), &"/".into()).unwrap()
    }

    #[test]
    fn logins_by_every_mechanism() {
        let directory = directory([permission("u", ".*", ".*", ".*")]);
        assert_eq!(directory.mechanism_names(), "PLAIN AMQPLAIN ANONYMOUS");
        let name =
            |result: Result<Arc<User>, LoginFailure>| result.map(|user| user.name.to_string());
        for (mechanism, response, expected) in [
            ("PLAIN", &b"\0u\0pw"[..], Ok("u")),
            (
                "AMQPLAIN",
                b"\x05LOGINS\0\0\0\x01u\x08PASSWORDS\0\0\0\x02pw",
                Ok("u"),
            ),
            ("ANONYMOUS", b"whatever", Ok("guest")),
            (
                "PLAIN",
                b"\0u\0wrong",
                Err("user 'u' - invalid credentials"),
            ),
            ("PLAIN", b"\0x\0pw", Err("user 'x' - invalid credentials")),
            (
                "PLAIN",
                b"\0u\0",
                Err("user 'u' attempted to log in with a blank password, which is prohibited"),
            ),
        ] {
            let expected =
                expected
                    .map(str::to_owned)
                    .map_err(|reason: &str| LoginFailure::Refused {
                        mechanism: mechanism.to_owned(),
                        user: String::from_utf8_lossy(response)[1..2].to_owned(),
                        reason: reason.to_owned(),
                    });
            assert_eq!(
                name(directory.authenticate(mechanism, response, true)),
                expected
            );
        }
        assert!(matches!(
            directory.authenticate("EXTERNAL", b"", true),
            Err(LoginFailure::UnknownMechanism { .. })
        ));
    }

    #[test]
    fn loopback_users_come_from_loopback_only_and_get_no_hint() {
        let directory = directory([permission("u", ".*", ".*", ".*")]);
        assert!(directory.check_password("guest", b"guest", true).is_ok());
        assert!(directory.check_password("u", b"pw", false).is_ok());
        let failure = directory
            .authenticate("PLAIN", b"\0guest\0guest", false)
            .unwrap_err();
        assert_eq!(
            failure.log_text(),
            "PLAIN login refused: user 'guest' can only connect via localhost"
        );
        assert_eq!(
            failure.refusal().text,
            "Login was refused using authentication mechanism PLAIN. For details see the broker logfile."
        );
    }

    #[test]
    fn anonymous_can_be_switched_off() {
        let directory = Directory::new(AuthSettings {
            anonymous_user: None,
            ..AuthSettings::default()
        });
        assert_eq!(directory.mechanism_names(), "PLAIN AMQPLAIN");
        assert!(matches!(
            directory.authenticate("ANONYMOUS", b"", true),
            Err(LoginFailure::UnknownMechanism { .. })
        ));
    }

    #[test]
    fn a_vhost_without_permission_is_closed() {
        let directory = directory([permission("u", "", "", "")]);
        assert!(directory.access(&"u".into(), &"/".into()).is_ok());
        let refusal = directory.access(&"guest".into(), &"/".into()).unwrap_err();
        assert_eq!(refusal.scope(), Scope::Connection);
        assert_eq!(refusal.text, "access to vhost '/' refused for user 'guest'");
    }

    #[test]
    fn refusals_name_the_operation_the_resource_and_the_user() {
        let directory = directory([permission("u", "^c", "^w|^amq.default$", "")]);
        let mut access = access(&directory);
        for (operation, resource, expected) in [
            (Operation::Configure, Resource::Queue("c1"), None),
            (Operation::Write, Resource::Exchange(""), None),
            (
                Operation::Configure,
                Resource::Queue("q"),
                Some("configure access to queue 'q' in vhost '/' refused for user 'u'"),
            ),
            (
                Operation::Read,
                Resource::Exchange(""),
                Some("read access to exchange 'amq.default' in vhost '/' refused for user 'u'"),
            ),
            (
                Operation::Write,
                Resource::Exchange("x"),
                Some("write access to exchange 'x' in vhost '/' refused for user 'u'"),
            ),
        ] {
            let result = access.check(operation, resource);
            assert_eq!(
                result.err().map(|refusal| refusal.text).as_deref(),
                expected
            );
        }
        assert!(access.check_any(Resource::Queue("w1")).is_ok());
        assert!(access.check_any(Resource::Queue("r1")).is_err());
    }

    #[test]
    fn a_change_moves_the_epoch_and_bites_at_the_next_question() {
        let directory = directory([permission("u", "", ".*", "")]);
        let mut access = access(&directory);
        assert!(access.check(Operation::Write, Resource::Queue("q")).is_ok());

        let before = access.epoch();
        directory
            .put_permission(permission("u", "", "^other$", ""))
            .unwrap();
        assert_ne!(access.epoch(), before);
        assert!(
            access
                .check(Operation::Write, Resource::Queue("q"))
                .is_err()
        );

        directory
            .put_permission(permission("u", "", ".*", ""))
            .unwrap();
        assert!(access.check(Operation::Write, Resource::Queue("q")).is_ok());
        assert!(directory.remove_user("u"));
        assert!(
            access
                .check(Operation::Write, Resource::Queue("q"))
                .is_err()
        );
        assert!(!access.is_open());
        assert_eq!(directory.permissions(), []);
    }

    #[test]
    fn topic_permissions_bind_only_where_they_are_set() {
        let directory = directory([permission("u", ".*", ".*", ".*")]);
        let mut access = access(&directory);
        assert!(!access.has_topic_rules("t"));
        assert!(access.check_topic(Operation::Write, "t", b"a.b").is_ok());

        directory
            .put_topic_permission(topic("t", "^a\\.", "^{username}\\."))
            .unwrap();
        directory
            .put_topic_permission(topic("other", "", ""))
            .unwrap();
        assert!(access.has_topic_rules("t"));
        assert!(access.check_topic(Operation::Write, "t", b"a.b").is_ok());
        assert!(access.check_topic(Operation::Read, "t", b"u.b").is_ok());
        assert_eq!(
            access
                .check_topic(Operation::Write, "t", b"b.c")
                .unwrap_err(),
            Refusal::access_refused(
                "write access to topic 'b.c' in exchange 't' in vhost '/' refused for user 'u'"
            )
        );

        assert_eq!(directory.topic_permissions().len(), 2);
        assert!(directory.remove_topic_permission("u", "/", Some("t")));
        assert!(!directory.remove_topic_permission("u", "/", Some("t")));
        assert!(!access.has_topic_rules("t"));
        assert!(access.has_topic_rules("other"));
        assert!(directory.remove_topic_permission("u", "/", None));
        assert_eq!(directory.topic_permissions(), []);
    }

    #[test]
    fn a_bad_pattern_changes_nothing() {
        let directory = directory([permission("u", "", ".*", "")]);
        let before = directory.epoch();
        let error = directory
            .put_permission(permission("u", "(?!x)", "", ""))
            .unwrap_err();
        assert_eq!(error.field, "configure");
        assert_eq!(directory.epoch(), before);
        assert_eq!(directory.permissions()[0].write, ".*");
    }

    #[test]
    fn a_vhost_goes_with_its_permissions() {
        let directory = directory([permission("u", "", ".*", "")]);
        directory.put_topic_permission(topic("t", "", "")).unwrap();
        directory.remove_vhost("/");
        assert_eq!(directory.permissions(), []);
        assert_eq!(directory.topic_permissions(), []);
    }
}
