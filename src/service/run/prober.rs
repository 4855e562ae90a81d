//! Probes of the framework's own health checks.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::Empty;
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::service::core::Target;

/// Probes in flight in the whole process (Marathon's bound).
const IN_FLIGHT: usize = 256;

/// Runs probes.
#[derive(Clone, Debug)]
pub(super) struct Prober {
    places: Arc<Semaphore>,
}

impl Prober {
    pub(super) fn new() -> Self {
        Self { places: Arc::new(Semaphore::new(IN_FLIGHT)) }
    }

    /// One probe: redirects are not followed, 200 to 399 is well.
    pub(super) async fn run(&self, target: &Target, timeout: Duration) -> Result<(), String> {
        let _place = self.places.acquire().await;
        let work = async {
            match target {
                Target::Tcp { address } => connect(address).await.map(drop),
                Target::Http { address, path } => match get(address, path).await? {
                    code if (200..400).contains(&code) => Ok(()),
                    code => Err(format!("HTTP status {code} from http://{address}{path}")),
                },
            }
        };
        // A timeout of zero would never let a probe succeed.
        let timeout = if timeout.is_zero() { Duration::from_secs(1) } else { timeout };
        tokio::time::timeout(timeout, work)
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {} s", timeout.as_secs_f64())))
    }
}

async fn connect(address: &str) -> Result<TcpStream, String> {
    TcpStream::connect(address).await.map_err(|error| format!("{address}: {error}"))
}

async fn get(address: &str, path: &str) -> Result<u16, String> {
    let stream = connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let driver = tokio::spawn(connection);
    let request = Request::get(path).header("Host", address).body(Empty::<Bytes>::new());
    let response = match request {
        Ok(request) => sender.send_request(request).await.map_err(|error| error.to_string()),
        Err(error) => Err(format!("{path:?}: {error}")),
    };
    driver.abort();
    Ok(response?.status().as_u16())
}
