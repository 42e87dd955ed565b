// A program of Rust's with the system's allocator: what is forgotten stays, and each other value is dropped.
use std::hint::black_box;
use std::io::{Read, Write};

#[inline(never)]
fn cache_session(id: u8) -> Box<[u8; 3000]> {
    black_box(Box::new([id; 3000]))
}

#[inline(never)]
fn drop_vectors() {
    for i in 0..7 {
        let mut words: Vec<u64> = Vec::with_capacity(10);
        words.push(i);
        words.reserve_exact(5000);
        black_box(&words);
    }
}

fn stop(line: &[u8]) {
    let mut byte = [0];
    // Standard output takes a buffer at its first use: that is before the first stop.
    let mut out = std::io::stdout();
    out.write_all(line).unwrap();
    out.flush().unwrap();
    std::io::stdin().lock().read_exact(&mut byte).unwrap();
}

fn main() {
    stop(b"ready\n");
    for id in 0..5 {
        std::mem::forget(black_box(cache_session(id)));
    }
    drop_vectors();
    stop(b"done\n");
}
