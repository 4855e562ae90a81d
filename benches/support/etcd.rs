//! Three etcd processes on loopback, and the calls of its gRPC interface that are needed here.

use std::path::Path;
use std::pin::Pin;
use std::process::{Command, Stdio};
use std::task::{Context, Poll};

use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper::http::uri::PathAndQuery;
use hyper::{Request, Response, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic_prost::ProstCodec;

use super::process::{Ended, free_ports};
use super::until;

#[derive(Clone, PartialEq, prost::Message)]
struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Empty {}

#[derive(Clone, PartialEq, prost::Message)]
struct Header {
    #[prost(uint64, tag = "2")]
    member_id: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<Header>,
    #[prost(uint64, tag = "4")]
    leader: u64,
}

#[derive(Clone)]
struct Channel(http2::SendRequest<Body>);

impl tower_service::Service<Request<Body>> for Channel {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

/// One connection to one etcd; clones share it.
#[derive(Clone)]
pub(crate) struct Client(Grpc<Channel>);

impl Client {
    pub(crate) async fn connect(port: u16) -> Result<Self, String> {
        let tcp = TcpStream::connect(("127.0.0.1", port)).await.map_err(|error| error.to_string())?;
        tcp.set_nodelay(true).map_err(|error| error.to_string())?;
        let shaken = http2::Builder::new(TokioExecutor::new()).handshake(TokioIo::new(tcp)).await;
        let (requests, connection) = shaken.map_err(|error| error.to_string())?;
        // Its calls report how it ends.
        tokio::spawn(async move { drop(connection.await) });
        Ok(Self(Grpc::with_origin(Channel(requests), Uri::from_static("http://etcd"))))
    }

    async fn call<Q, A>(&mut self, path: &'static str, message: Q) -> Result<A, String>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        self.0.ready().await.map_err(|error| error.to_string())?;
        let codec: ProstCodec<Q, A> = ProstCodec::default();
        let request = tonic::Request::new(message);
        let answer = self.0.unary(request, PathAndQuery::from_static(path), codec).await;
        answer.map(tonic::Response::into_inner).map_err(|status| status.to_string())
    }

    /// Writes one value.
    pub(crate) async fn put(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<(), String> {
        self.call::<_, Empty>("/etcdserverpb.KV/Put", PutRequest { key, value }).await.map(|_| ())
    }

    /// Whether this etcd leads.
    async fn leads(&mut self) -> Result<bool, String> {
        let status: StatusResponse = self.call("/etcdserverpb.Maintenance/Status", Empty {}).await?;
        Ok(status.leader != 0 && status.header.is_some_and(|header| header.member_id == status.leader))
    }
}

/// Three of them.
pub(crate) struct Etcd {
    pub(crate) members: Vec<Ended>,
    clients: Vec<u16>,
    peers: Vec<u16>,
    folder: TempDir,
}

impl Etcd {
    /// Starts them with etcd's defaults: heartbeats 100 ms apart, elections after 1 s.
    pub(crate) async fn start(parent: &Path) -> Self {
        let folder = tempfile::tempdir_in(parent).unwrap();
        let ports = free_ports(6);
        let (clients, peers) = (ports[..3].to_vec(), ports[3..].to_vec());
        let mut etcd = Self { members: Vec::new(), clients, peers, folder };
        for number in 0..3 {
            let member = etcd.spawn(number, "new");
            etcd.members.push(member);
        }
        etcd.leader(&[0, 1, 2]).await;
        etcd
    }

    fn spawn(&self, number: usize, state: &str) -> Ended {
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let all = self.peers.iter().enumerate().map(|(number, port)| format!("e{number}={}", url(*port)));
        let all: Vec<String> = all.collect();
        let (peer, client) = (url(self.peers[number]), url(self.clients[number]));
        let mut command = Command::new("etcd");
        command.args(["--name", &format!("e{number}"), "--data-dir"]);
        command.arg(self.folder.path().join(number.to_string()));
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--initial-cluster", &all.join(","), "--initial-cluster-state", state]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ended(command.spawn().unwrap())
    }

    /// Starts one again that was killed.
    pub(crate) fn restart(&mut self, number: usize) {
        self.members[number] = self.spawn(number, "existing");
    }

    pub(crate) fn port(&self, number: usize) -> u16 {
        self.clients[number]
    }

    /// Which of these leads, as soon as one does.
    pub(crate) async fn leader(&self, among: &[usize]) -> usize {
        until("an etcd that leads", async || {
            for number in among {
                let Ok(mut client) = Client::connect(self.clients[*number]).await else { continue };
                if client.leads().await == Ok(true) {
                    return Some(*number);
                }
            }
            None
        })
        .await
    }
}
