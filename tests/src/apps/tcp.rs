//! Applications on bare TCP.

use super::App;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weft_cli::sandbox::Pod;

/// Echoes until the caller has finished sending, then says how much it was and closes: only a connection whose
/// halves close one by one shows the end.
pub fn echo(pod: &Pod, port: u16) -> anyhow::Result<App> {
    App::start(pod, port, |listener| async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut buffer = vec![0; 16 * 1024];
                let mut total = 0;
                while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                    total += read;
                    if stream.write_all(&buffer[..read]).await.is_err() {
                        return;
                    }
                }
                let _ = stream.write_all(format!("end:{total}").as_bytes()).await;
                let _ = stream.shutdown().await;
            });
        }
    })
}

/// Greets before it has read anything, as databases and mail servers do, then echoes.
pub fn greeter(pod: &Pod, port: u16, greeting: &'static str) -> anyhow::Result<App> {
    App::start(pod, port, move |listener| async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                if stream.write_all(greeting.as_bytes()).await.is_err() {
                    return;
                }
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
                let _ = write.shutdown().await;
            });
        }
    })
}

/// Reads the head of a request and answers it with fixed bytes, then waits for the caller to close: for answers
/// that a well-behaved HTTP library would not write.
pub fn scripted(pod: &Pod, port: u16, answer: &'static [u8]) -> anyhow::Result<App> {
    App::start(pod, port, move |listener| async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    match stream.read_buf(&mut request).await {
                        Ok(1..) => {}
                        Ok(0) | Err(_) => return,
                    }
                }
                if stream.write_all(answer).await.is_ok() {
                    let _ = stream.read_buf(&mut request).await;
                }
            });
        }
    })
}
