//! A chat over many pods.
//!
//! In come connections and the messages of their clients, out go those messages to everybody in the same
//! room, on whichever pod, Node's included. It keeps nothing.
//!
//! `cargo run -p adapter-redis --example chat -- redis://127.0.0.1:6379 127.0.0.1:3000`

use std::{error::Error, time::Duration};

use adapter_redis::{
    RedisConfig,
    socketio::{AdapterConfig, Bus, Hooks, Profile, Reach, RedisAdapter},
};
use socketioxide::{
    SocketIo,
    adapter::Emitter,
    extract::{AckSender, Data, SocketRef},
    socket::Sid,
};
use tokio::net::TcpListener;

type Adapter = RedisAdapter<Emitter>;

/// What others do to connections of this pod.
struct Watch;

impl Hooks for Watch {
    fn on_join(&self, namespace: &str, sid: Sid, room: &str) {
        println!("{sid} was put into {room} of {namespace}");
    }

    fn on_gap(&self, lost: Duration) {
        println!("messages of other pods were lost for {lost:?}");
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().unwrap_or_else(|| "redis://127.0.0.1:6379".to_owned());
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:3000".to_owned());

    let redis = RedisConfig { url: url.into(), ..RedisConfig::default() };
    let bus = Bus::<Emitter>::connect(&redis, AdapterConfig::default(), "chat-0", Watch)?;
    let (layer, io) = SocketIo::builder().with_adapter::<Adapter>(bus.clone()).build_layer();
    let of_connections = bus.clone();
    io.ns("/", async move |socket: SocketRef<Adapter>| connected(&of_connections, &socket).await);

    // Without Redis it serves its own clients, and the others as soon as there is one.
    if !bus.ready(Duration::from_secs(2)).await {
        println!("redis is away");
    }
    let listener = TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    axum::serve(listener, axum::Router::new().layer(layer)).await?;
    Ok(())
}

async fn connected(bus: &Bus<Emitter>, socket: &SocketRef<Adapter>) {
    let Some(adapter) = bus.adapter(socket.ns()) else { return };
    let leaving = adapter.clone();
    socket.on_disconnect(async move |socket: SocketRef<Adapter>| leaving.leave_all(socket.id));

    let joining = adapter.clone();
    socket.on(
        "join",
        async move |socket: SocketRef<Adapter>,
                    Data(room): Data<String>,
                    ack: AckSender<Adapter>| {
            // Once this is acknowledged, whatever any pod sends to the room arrives.
            let reach = joining.join(socket.id, &room).await;
            let _ = ack.send(&(reach == Reach::Cluster));
        },
    );
    socket.on(
        "say",
        async |socket: SocketRef<Adapter>, Data((room, text)): Data<(String, String)>| {
            let _ = socket.within(room).emit("said", &(socket.id.to_string(), text)).await;
        },
    );
    // From here on it is reached by its id, from anywhere.
    adapter.attach(socket.id, Profile::default()).await;
}
