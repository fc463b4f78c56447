//! `vibrissa sweep`: flags to a request, events to the terminal, configurations as a table.

use crate::flags::flags;
use crate::options::RunFlags;
use crate::progress::{say, stop_flag};
use crate::show;
use clap::Args;
use indicatif::ProgressBar;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Instant;
use vibrissa::Result;
use vibrissa::record::sweep::{Apart, Ended, SweepRecord};
use vibrissa::sweep::{Event, Outcome, PreparedSweep, SweepRequest, run as run_sweep};

/// Train a grid of configurations and compare them on one frontier of sparsity and fidelity.
#[derive(Args, Debug)]
pub struct SweepArgs {
    /// Data to train on, as in vibrissa train
    #[arg(value_name = "DATA")]
    data: String,
    /// Folder for all files of the sweep; it must be new or empty
    #[arg(long, value_name = "SWEEP")]
    out: PathBuf,
    /// Options and their values, such as: latents=512,1024 k=16,32,64 lr=0.001,0.003 seed=1,2,3 activation=topk,relu. Any
    /// option of model and training. If a value contains commas, separate values by semicolons: matryoshka=64,256;128,512
    #[arg(long, value_name = "OPTION=VALUES", num_args = 1.., required = true)]
    grid: Vec<String>,
    /// Successive halving: after 1/8, 1/4 and 1/2 of the steps, stop the worse half of the configurations with the same k
    /// and activation
    #[arg(long)]
    halving: bool,
    /// Continue an interrupted sweep. Finished cells are kept; the grid may have additional values
    #[arg(long)]
    resume: bool,
    #[command(flatten)]
    options: RunFlags,
}

/// Runs the command.
pub fn run(args: SweepArgs) -> Result<ExitCode> {
    let stop = stop_flag();
    let request = SweepRequest {
        data: args.data,
        out: args.out,
        grid: args.grid,
        options: args.options.options()?,
        halving: args.halving,
        resume: args.resume,
    };
    let mut progress = SweepProgress::new();
    let outcome = run_sweep(&request, &mut |event| {
        progress.on_event(event);
        if stop.load(Ordering::SeqCst) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    progress.clear();
    let Outcome::Finished(record) = outcome? else {
        eprintln!("stopped; continue with the same command and --resume");
        return Ok(ExitCode::from(130));
    };
    print!("{}", report(&record));
    eprintln!("\nwrote {0}/sweep.json and sweep.csv; next: vibrissa report {0}", request.out.display());
    Ok(ExitCode::SUCCESS)
}

/// The progress on the terminal; without one, a line every half minute.
struct SweepProgress {
    reading: show::Bar,
    bar: Option<ProgressBar>,
    ended: usize,
    cells: usize,
    last_line: Instant,
}

impl SweepProgress {
    fn new() -> SweepProgress {
        SweepProgress { reading: show::Bar::new("reading"), bar: None, ended: 0, cells: 0, last_line: Instant::now() }
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Reading(done, total) => self.reading.set(done, total),
            Event::Skipped(file) => crate::progress::say_skipped_file(file),
            Event::Prepared(prepared) => {
                self.reading.finish();
                describe(prepared);
                self.cells = prepared.cells.len();
                self.bar = Some(show::styled(1, "sweeping"));
            }
            Event::Progress(done, planned) => self.on_steps(done, planned),
            Event::CellEnded(cell) => {
                self.ended += 1;
                if let (Some(error), Some(bar)) = (&cell.error, &self.bar) {
                    let error = flags().translate(error);
                    bar.suspend(|| eprintln!("warning: {} failed: {error}", cell.name));
                }
            }
            Event::Warning(text) => {
                self.reading.finish();
                say("warning", &text);
            }
            _ => (),
        }
    }

    fn on_steps(&mut self, done: u64, planned: u64) {
        let Some(bar) = &self.bar else { return };
        bar.set_length(planned);
        bar.set_position(done);
        bar.set_message(format!("{} of {} cells", self.ended, self.cells));
        if bar.is_hidden() && self.last_line.elapsed().as_secs() >= 30 {
            self.last_line = Instant::now();
            eprintln!("sweeping: step {done} of {planned}, {} of {} cells ended", self.ended, self.cells);
        }
    }

    fn clear(&mut self) {
        self.reading.finish();
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

/// Prints the data and the number of cells of a sweep that is about to start.
fn describe(prepared: &PreparedSweep) {
    let PreparedSweep { spec, data, rows, cells, halving, .. } = prepared;
    let n = |rows: &[usize]| show::count(data.images(rows).len());
    let (unit, patches) = match data.patches() {
        Some(p) => ("images", format!(", each as {} patches (L0 is per patch)", show::count(p.patches_per_image()))),
        None => ("rows", String::new()),
    };
    eprintln!(
        "{spec}: {} {unit} to train on, {} for validation, {} held out{patches}",
        n(&rows.train),
        n(&rows.validation),
        n(&rows.test)
    );
    let halved = ", the worse half of each k and activation is stopped at 1/8, 1/4 and 1/2 of the steps";
    eprintln!("{}{}", show::plural(cells.len(), "cell"), if *halving { halved } else { "" });
}

/// The configurations as a table, the front marked.
fn report(record: &SweepRecord) -> String {
    let seeds = record.configurations.iter().any(|c| c.seeds > 1);
    let mut head = vec!["", "configuration", "L0", "fvu"];
    if seeds {
        head.extend(["±", "seeds"]);
    }
    head.extend(["Pearson", "dead", "validation fvu"]);
    let mut rows = vec![head.into_iter().map(str::to_owned).collect::<Vec<_>>()];
    for c in &record.configurations {
        let (best, knee) = record.best_and_knee(c);
        let apart = |a: Apart| c.apart == Some(a);
        let marks = [
            (best, "best"),
            (knee, "knee"),
            (c.front, "front"),
            (apart(Apart::Dense), "dense"),
            (apart(Apart::NoBetter), "no better than a mean"),
        ];
        let mark = marks.iter().filter(|m| m.0).map(|m| m.1).collect::<Vec<_>>().join(", ");
        let mut row =
            vec![mark, c.name.clone(), c.l0.get().map_or("–".into(), |v| format!("{v:.1}")), show::figure(c.fvu.get())];
        if seeds {
            row.extend([show::figure(c.fvu_band.get()), c.seeds.to_string()]);
        }
        row.push(show::figure(c.pearson.get()));
        row.push(c.dead_latents.get().map_or("–".into(), |v| show::count(v.round() as usize)));
        row.push(show::figure(c.validation_fvu.get()));
        rows.push(row);
    }
    let mut out = show::table(&rows);
    let stopped = record.cells.iter().filter(|c| c.ended == Ended::Stopped).count();
    if stopped > 0 {
        out += &format!("{} stopped early\n", show::plural(stopped, "cell"));
    }
    out
}
