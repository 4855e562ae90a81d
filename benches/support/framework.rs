//! A v1 framework over HTTP.

use std::time::Duration;

use mesita::api::v1::scheduler::{self, call};
use mesita::api::v1::{self, TaskState};
use mesita::client::http::{HttpClient, HttpScheduler};
use mesita::client::{ApiError, SchedulerApi, SubscriptionStream};

/// Acknowledgements that are on their way together.
const AT_ONCE: usize = 64;

/// A subscribed framework.
pub(crate) struct Framework {
    api: std::sync::Arc<HttpScheduler>,
    stream: SubscriptionStream<scheduler::Event>,
    pub(crate) id: Option<v1::FrameworkId>,
    pub(crate) offers: Vec<v1::Offer>,
    /// Acknowledgements on their way.
    acknowledgements: tokio::task::JoinSet<Result<(), ApiError>>,
}

impl Framework {
    /// Subscribes, or subscribes again with the id that it has.
    pub(crate) async fn subscribe(master: &str, id: Option<v1::FrameworkId>) -> Result<Self, ApiError> {
        let api = HttpScheduler::new(HttpClient::new(master, Duration::from_secs(30))?);
        let info = v1::FrameworkInfo {
            name: "bench".to_owned(),
            id: id.clone(),
            failover_timeout: Some(3_600.0),
            ..Default::default()
        };
        let call = scheduler::Call {
            framework_id: id.clone(),
            r#type: Some(call::Type::Subscribe.into()),
            subscribe: Some(call::Subscribe { framework_info: info, ..Default::default() }),
            ..Default::default()
        };
        let stream = api.subscribe(call, None).await?;
        let acknowledgements = tokio::task::JoinSet::new();
        Ok(Self { api: std::sync::Arc::new(api), stream, id, offers: Vec::new(), acknowledgements })
    }

    pub(crate) fn call(
        &self,
        kind: call::Type,
        fill: impl FnOnce(&mut scheduler::Call),
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<(), ApiError>> + Send>> {
        let mut call = scheduler::Call {
            framework_id: self.id.clone(),
            r#type: Some(kind.into()),
            ..Default::default()
        };
        fill(&mut call);
        let (api, stream_id) = (std::sync::Arc::clone(&self.api), self.stream.stream_id.clone());
        Box::pin(async move { api.call(call, Some(stream_id), None).await })
    }

    /// The next event; offers are kept, updates acknowledged and answered.
    pub(crate) async fn next(&mut self) -> Option<v1::TaskStatus> {
        let event = self.stream.events.recv().await.unwrap();
        if let Some(subscribed) = event.subscribed {
            self.id = Some(subscribed.framework_id);
        }
        self.offers.extend(event.offers.map(|offers| offers.offers).unwrap_or_default());
        let status = event.update?.status;
        if let (Some(uuid), Some(agent_id)) = (status.uuid.clone(), status.agent_id.clone()) {
            let acknowledge = call::Acknowledge { agent_id, task_id: status.task_id.clone(), uuid };
            // One that is lost with its master is asked for again.
            let call = self.call(call::Type::Acknowledge, |call| call.acknowledge = Some(acknowledge));
            while self.acknowledgements.len() >= AT_ONCE
                && let Some(taken) = self.acknowledgements.join_next().await
            {
                taken.unwrap().unwrap();
            }
            self.acknowledgements.spawn(call);
        }
        Some(status)
    }

    /// Waits until every acknowledgement was taken.
    pub(crate) async fn acknowledged(&mut self) {
        while let Some(taken) = self.acknowledgements.join_next().await {
            taken.unwrap().unwrap();
        }
    }

    pub(crate) async fn offer(&mut self) -> v1::Offer {
        loop {
            if let Some(offer) = self.offers.pop() {
                return offer;
            }
            self.next().await;
        }
    }

    /// Launches tasks with one ACCEPT; what is left of the offer comes back at once.
    pub(crate) async fn launch(&mut self, program: &str, tasks: std::ops::Range<usize>) {
        let offer = self.offer().await;
        let scalar = |name: &str, value| v1::Resource {
            name: name.to_owned(),
            r#type: v1::value::Type::Scalar.into(),
            scalar: Some(v1::value::Scalar { value }),
            ..Default::default()
        };
        let task_infos = tasks.map(|number| v1::TaskInfo {
            name: program.to_owned(),
            task_id: v1::TaskId { value: format!("task-{number}") },
            agent_id: offer.agent_id.clone(),
            command: Some(v1::CommandInfo {
                shell: Some(false),
                value: Some(program.to_owned()),
                ..Default::default()
            }),
            resources: vec![scalar("cpus", 0.01), scalar("mem", 1.0)],
            ..Default::default()
        });
        let operation = v1::offer::Operation {
            r#type: Some(v1::offer::operation::Type::Launch.into()),
            launch: Some(v1::offer::operation::Launch { task_infos: task_infos.collect() }),
            ..Default::default()
        };
        let accept = call::Accept {
            offer_ids: vec![offer.id],
            operations: vec![operation],
            filters: Some(v1::Filters { refuse_seconds: Some(0.0) }),
        };
        self.call(call::Type::Accept, |call| call.accept = Some(accept)).await.unwrap();
    }

    pub(crate) async fn until(&mut self, state: TaskState, mut count: usize) {
        while count > 0 {
            if self.next().await.is_some_and(|status| status.state == i32::from(state)) {
                count -= 1;
            }
        }
    }
}
