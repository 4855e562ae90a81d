//! SUBSCRIBE: a scheduler comes, comes back, or takes over.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::framework_check;
use super::io::{ConnId, Effect};
use super::state::{Framework, HEARTBEAT, Master, Pending};
use super::wire;
use crate::api::v1::scheduler::{call, event};
use crate::base::id::{FrameworkId, Role};
use crate::base::time::Now;
use crate::registry::core::Change;

impl Master {
    /// Checks a subscription and records the framework in the registry.
    pub(super) fn subscribe(
        &mut self,
        conn: ConnId,
        stream_id: String,
        mut subscribe: call::Subscribe,
        principal: Option<String>,
        effects: &mut Vec<Effect>,
    ) {
        let info = &mut subscribe.framework_info;
        if info.principal.is_none() {
            info.principal.clone_from(&principal);
        }
        if let Err(problem) = self.check_subscription(&subscribe, principal.as_deref()) {
            self.refuse(conn, problem, effects);
            return;
        }
        let info = &mut subscribe.framework_info;
        let id = match info.id.as_ref().filter(|id| !id.value.is_empty()) {
            Some(id) => FrameworkId::new(&id.value),
            None => {
                let id = FrameworkId::from(format!("{}-{:04}", self.id, self.next_framework));
                self.next_framework += 1;
                id
            }
        };
        info.id = Some(wire::framework_id(&id));
        // `user` and `checkpoint` stay what they were (Mesos: changes are silently ignored).
        if let Some(known) = self.frameworks.get_mut(&id) {
            // The registry forgets the deadline together with what is proposed below.
            known.has_recorded_deadline = false;
            known.coming = Some(conn);
            info.user.clone_from(&known.info.user);
            info.checkpoint = known.info.checkpoint;
        }
        let change = Change::AddFramework { info: Arc::new(info.clone()) };
        let pending = Pending::Subscribe { conn, stream_id, subscribe: Box::new(subscribe), principal };
        self.propose(change, pending, effects);
    }

    fn check_subscription(&self, subscribe: &call::Subscribe, principal: Option<&str>) -> Result<(), String> {
        let info = &subscribe.framework_info;
        framework_check::check(info, &subscribe.suppressed_roles)?;
        framework_check::constraints(subscribe.offer_constraints.as_ref())?;
        if let (Some(own), Some(caller)) = (&info.principal, principal)
            && own != caller
        {
            return Err(format!("the principal {own:?} differs from the authenticated {caller:?}"));
        }
        let Some(id) = info.id.as_ref().map(|id| FrameworkId::new(&id.value)) else { return Ok(()) };
        if self.removed.contains(&id) || self.frameworks.get(&id).is_some_and(|framework| framework.leaving) {
            return Err("Framework has been removed".to_owned());
        }
        match self.frameworks.get(&id) {
            Some(known) if known.info.principal != info.principal => {
                Err("changing the principal of a framework is not supported".to_owned())
            }
            _ => Ok(()),
        }
    }

    fn refuse(&mut self, conn: ConnId, problem: String, effects: &mut Vec<Effect>) {
        self.conns.remove(&conn);
        effects.push(Effect::Send { conn, event: Box::new(wire::error(problem)) });
        effects.push(Effect::Close { conn });
    }

    /// The framework is recorded: it is subscribed from now on.
    #[expect(clippy::too_many_arguments, reason = "everything of the call that waited for the registry")]
    pub(super) fn subscribed(
        &mut self,
        conn: ConnId,
        stream_id: String,
        subscribe: call::Subscribe,
        principal: Option<String>,
        refused: Option<String>,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let info = Arc::new(subscribe.framework_info);
        let id = FrameworkId::new(info.id.as_ref().map_or("", |id| id.value.as_str()));
        self.arrived(conn, &id);
        if let Some(problem) = refused {
            return self.not_subscribed(conn, &id, problem, now, effects);
        }
        if self.is_coming(&id) && !self.conns.contains_key(&conn) {
            // Its scheduler hung up and subscribed again before this was recorded.
            return;
        }
        let suppressed: BTreeSet<Role> = subscribe.suppressed_roles.iter().map(Role::new).collect();
        self.take_over(&id, effects);
        let is_new = !self.frameworks.contains_key(&id);
        let framework = self
            .frameworks
            .entry(id.clone())
            .or_insert_with(|| Framework::new(Arc::clone(&info), now, false));
        if framework.recovered {
            framework.registered = now.wall;
        }
        framework.describe(info);
        framework.conn = Some(conn);
        framework.stream_id = stream_id;
        framework.recovered = false;
        framework.reregistered = now.wall;
        framework.deadline = None;
        framework.heartbeat = now.mono.after(HEARTBEAT);
        framework.principal = principal;
        framework.constraints = subscribe.offer_constraints;
        let spec = framework.spec(suppressed);
        let roles = framework.roles.clone();
        let is_recorded = std::mem::take(&mut framework.has_recorded_deadline);
        if is_recorded {
            // It was proposed after this subscription.
            let change = Change::SetFrameworkDeadline { framework_id: id.clone(), deadline: None };
            self.propose(change, Pending::Nothing, effects);
        }
        if is_new {
            self.allocator.add_framework(&id, spec, true);
        } else {
            self.allocator.update_framework(&id, spec);
            self.allocator.activate_framework(&id);
            self.rescind_other_roles(&id, &roles, now, effects);
        }
        self.greet(conn, &id, effects);
        self.tell_agents_of(&id, effects);
        // The scheduler may have gone away while the registry wrote.
        match self.conns.get_mut(&conn) {
            Some(owner) => *owner = Some(id),
            None => self.lost_scheduler(&id, now, effects),
        }
    }

    /// A subscription has come through the registry.
    fn arrived(&mut self, conn: ConnId, id: &FrameworkId) {
        if let Some(framework) = self.frameworks.get_mut(id).filter(|known| known.coming == Some(conn)) {
            framework.coming = None;
        }
    }

    /// The registry refused. If the stream before it has ended meanwhile, that counts now.
    fn not_subscribed(
        &mut self,
        conn: ConnId,
        id: &FrameworkId,
        problem: String,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        self.refuse(conn, problem, effects);
        let last = self.frameworks.get(id).and_then(|framework| framework.conn);
        if last.is_some_and(|last| !self.conns.contains_key(&last)) && !self.is_coming(id) {
            self.lost_scheduler(id, now, effects);
        }
    }

    fn greet(&self, conn: ConnId, id: &FrameworkId, effects: &mut Vec<Effect>) {
        let subscribed = event::Subscribed {
            framework_id: wire::framework_id(id),
            heartbeat_interval_seconds: Some(HEARTBEAT.as_secs_f64()),
            master_info: Some(self.info()),
        };
        let first = wire::event(event::Type::Subscribed);
        let first = crate::api::v1::scheduler::Event { subscribed: Some(subscribed), ..first };
        effects.push(Effect::Send { conn, event: Box::new(first) });
        effects.push(Effect::Send { conn, event: Box::new(wire::event(event::Type::Heartbeat)) });
    }

    /// The newest subscriber wins: an older stream of the same framework is told and closed, and its
    /// offers are discarded without a word.
    fn take_over(&mut self, id: &FrameworkId, effects: &mut Vec<Effect>) {
        let Some(framework) = self.frameworks.get_mut(id) else { return };
        let old = framework.conn.take();
        let offers: Vec<_> = framework.offers.iter().cloned().collect();
        for offer_id in offers {
            self.take_back(&offer_id, None, Now::default());
        }
        if let Some(old) = old {
            self.conns.remove(&old);
            effects.push(Effect::Send { conn: old, event: Box::new(wire::error("Framework failed over")) });
            effects.push(Effect::Close { conn: old });
        }
    }
}
