//! Trains on a folder of images: `cargo run --release -p vibrissa --example train_folder -- PHOTOS RUN`.
//!
//! Without arguments it trains on synthetic images, into a temporary folder.

use std::ops::ControlFlow;
use vibrissa::options::RunOptions;
use vibrissa::run::{Event, Outcome, RunRequest, TrainingEvent, run};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let temporary = tempfile::tempdir()?;
    let data = arguments.next().unwrap_or("synthetic:rows=1000".into());
    let out = arguments.next().map_or(temporary.path().join("run"), Into::into);
    let mut options = RunOptions::default();
    options.set("epochs", "3")?;
    let request = RunRequest { data, out, options, ..RunRequest::default() };
    let outcome = run(&request, &mut |event| {
        match event {
            Event::Training { event: TrainingEvent::Logged(line), .. } => println!("step {}", line.step),
            Event::Warning(text) => println!("warning: {text}"),
            _ => (),
        }
        ControlFlow::Continue(())
    })?;
    if let Outcome::Finished(finished) = outcome {
        let scores = &finished.eval.saes[0].scores;
        println!("held out: fvu {:?}, L0 {:?}", scores.reconstruction.fvu, scores.l0);
    }
    Ok(())
}
