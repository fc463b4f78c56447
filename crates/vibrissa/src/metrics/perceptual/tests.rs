//! Comparison of the distance with a reference in f64 that shares no code with it: whole filters at each angle, place
//! by place.

use super::*;

type Plane = Vec<Vec<f64>>;
type Filter = [[f64; 7]; 7];

/// The filters as in step 2 of the definition.
fn reference_filters() -> Vec<(Filter, Filter)> {
    let t: Vec<f64> = (-3..=3).map(|j| 0.7 * f64::from(j)).collect();
    let gauss = |u: f64| (-u * u).exp();
    let k = 2.0 * t.iter().map(|&t| t * t * gauss(t)).sum::<f64>() / t.iter().map(|&t| gauss(t)).sum::<f64>();
    let at = |degrees: f64| {
        let (sin, cos) = degrees.to_radians().sin_cos();
        let (mut g, mut h) = ([[0.0; 7]; 7], [[0.0; 7]; 7]);
        for i in 0..7 {
            for j in 0..7 {
                let (u, r2) = (t[j] * cos - t[i] * sin, t[i] * t[i] + t[j] * t[j]);
                g[i][j] = 0.9213 / 2.20939 * (2.0 * u * u - k) * (-r2).exp();
                h[i][j] = 0.9780 / 2.20939 * (u.powi(3) - 2.254 * u) * (-r2).exp();
            }
        }
        (g, h)
    };
    [0.0, 45.0, 90.0, 135.0].map(at).to_vec()
}

fn pixel(p: &Plane, y: isize, x: isize) -> f64 {
    let line = &p[y.clamp(0, p.len() as isize - 1) as usize];
    line[x.clamp(0, line.len() as isize - 1) as usize]
}

fn respond(p: &Plane, f: &Filter, y: usize, x: usize) -> f64 {
    let mut out = 0.0;
    for (i, line) in f.iter().enumerate() {
        for (j, f) in line.iter().enumerate() {
            out += f * pixel(p, y as isize + i as isize - 3, x as isize + j as isize - 3);
        }
    }
    out
}

fn reference_halve(p: &Plane) -> Plane {
    let b = [1.0, 3.0, 3.0, 1.0];
    let (h, w) = (p.len().div_ceil(2), p[0].len().div_ceil(2));
    let at = |y: usize, x: usize| {
        let mut out = 0.0;
        for (i, bi) in b.iter().enumerate() {
            for (j, bj) in b.iter().enumerate() {
                let (y, x) = ((2 * y + i) as isize - 1, (2 * x + j) as isize - 1);
                out += bi * bj / 64.0 * pixel(p, y, x);
            }
        }
        out
    };
    (0..h).map(|y| (0..w).map(|x| at(y, x)).collect()).collect()
}

fn reference(x: &[f64], y: &[f64], shape: ImageShape, peak: f64) -> f64 {
    let plane = shape.height * shape.width;
    let filters = reference_filters();
    let plane_of =
        |v: &[f64]| -> Plane { v.chunks(shape.width).map(|l| l.iter().map(|v| v / peak).collect()).collect() };
    let mut all = 0.0;
    for c in 0..shape.channels {
        let (mut x, mut y) = (plane_of(&x[c * plane..][..plane]), plane_of(&y[c * plane..][..plane]));
        let mut terms = Vec::new();
        loop {
            let (h, w) = (x.len(), x[0].len());
            let mut sum = 0.0;
            for (g, f) in &filters {
                for i in 0..h {
                    for j in 0..w {
                        let m = |p| (respond(p, g, i, j).powi(2) + respond(p, f, i, j).powi(2) + 1e-4f64).sqrt();
                        let (a, b) = (m(&x), m(&y));
                        sum += 1.0 - (2.0 * a * b + 0.0025) / (a * a + b * b + 0.0025);
                    }
                }
            }
            terms.push(sum / (4 * h * w) as f64);
            (x, y) = (reference_halve(&x), reference_halve(&y));
            if terms.len() == 4 || x.len().min(x[0].len()) < 6 {
                break;
            }
        }
        let pairs = x.iter().flatten().zip(y.iter().flatten());
        let left: f64 = pairs.map(|(a, b)| (a - b).powi(2) / ((a - b).powi(2) + 0.0625)).sum();
        terms.push(left / (x.len() * x[0].len()) as f64);
        all += terms.iter().sum::<f64>() / terms.len() as f64;
    }
    all / shape.channels as f64
}

fn wide(v: &[f32]) -> Vec<f64> {
    v.iter().map(|&v| v.into()).collect()
}

/// Random numbers in [0, 1).
fn random(seed: u64) -> impl FnMut() -> f32 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1;
    move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((state >> 40) as f32) / (1u64 << 24) as f32
    }
}

/// An image of a background with a gradient, a disc, an oblique bar and a texture.
fn scene(shape: ImageShape, seed: u64) -> Vec<f32> {
    let mut next = random(seed);
    let mut out = Vec::new();
    for _ in 0..shape.channels {
        let [cx, cy, r, slope, at, f] = [0.0; 6].map(|_: f32| next());
        for y in 0..shape.height {
            for x in 0..shape.width {
                let (u, v) = (x as f32 / shape.width as f32, y as f32 / shape.height as f32);
                let mut p = 0.25 + 0.3 * v;
                if (u - cx).hypot(v - cy) < 0.15 + 0.15 * r {
                    p = 0.8;
                }
                if (u + (slope - 0.5) * v - at).abs() < 0.07 {
                    p = 0.1;
                }
                if v > 0.6 {
                    p += 0.08 * (6.3 * (6.0 + 4.0 * f) * (u + 0.3 * v)).sin();
                }
                out.push(p);
            }
        }
    }
    out
}

fn noisy(x: &[f32], amount: f32, seed: u64) -> Vec<f32> {
    let mut next = random(seed);
    x.iter().map(|v| v + amount * (next() + next() + next() - 1.5)).collect()
}

/// Filters by [1 2 1]/4 along both axes, `times` times.
fn blurred(x: &[f32], s: ImageShape, times: usize) -> Vec<f32> {
    let mut out = x.to_vec();
    for _ in 0..times {
        let from = out.clone();
        let at = |c: usize, y: isize, x: isize| {
            let (y, x) = (y.clamp(0, s.height as isize - 1) as usize, x.clamp(0, s.width as isize - 1) as usize);
            from[(c * s.height + y) * s.width + x]
        };
        for (i, out) in out.iter_mut().enumerate() {
            let (c, y, x) = (i / (s.height * s.width), (i / s.width % s.height) as isize, (i % s.width) as isize);
            let line = |y| at(c, y, x - 1) + 2.0 * at(c, y, x) + at(c, y, x + 1);
            *out = (line(y - 1) + 2.0 * line(y) + line(y + 1)) / 16.0;
        }
    }
    out
}

fn shifted(x: &[f32], s: ImageShape, by: usize) -> Vec<f32> {
    x.chunks(s.width).flat_map(|l| (0..s.width).map(|i| l[i.saturating_sub(by)])).collect()
}

fn mse(x: &[f32], y: &[f32]) -> f32 {
    x.iter().zip(y).map(|(a, b)| (a - b).powi(2)).sum::<f32>() / x.len() as f32
}

/// The image on the line from `x` through `y` whose mean squared error is `error`.
fn with_mse(x: &[f32], y: &[f32], error: f32) -> Vec<f32> {
    let c = (error / mse(x, y)).sqrt();
    x.iter().zip(y).map(|(a, b)| a + c * (b - a)).collect()
}

fn distance(x: &[f32], y: &[f32], shape: ImageShape) -> f64 {
    FilterBank::new(shape, 1.0).distance(x, y, &mut Scratch::default())
}

const SHAPES: [(usize, usize, usize); 11] = [
    (1, 28, 28),
    (3, 16, 16),
    (2, 13, 22),
    (1, 11, 9),
    (1, 7, 40),
    (1, 6, 6),
    (1, 3, 5),
    (2, 5, 1),
    (1, 1, 9),
    (3, 1, 1),
    (1, 24, 17),
];

#[test]
fn matches_the_definition() {
    // One scratch for all shapes: an earlier image must not matter.
    let mut scratch = Scratch::default();
    for shape in SHAPES.into_iter().chain(SHAPES).map(ImageShape::from) {
        for peak in [1.0f32, 37.5] {
            let scaled = |v: Vec<f32>| v.into_iter().map(|v| v * peak).collect::<Vec<_>>();
            let (x, y) = (scaled(scene(shape, 1)), scaled(noisy(&scene(shape, 2), 0.3, 3)));
            let bank = FilterBank::new(shape, peak);
            let (got, want) =
                (bank.distance(&x, &y, &mut scratch), reference(&wide(&x), &wide(&y), shape, peak.into()));
            assert!((got - want).abs() < 1e-6, "{shape:?}, peak {peak}: {got} against {want}");
            assert!((0.0..1.0).contains(&got) && (got > 0.02 || shape.dim() < 10), "{shape:?}: {got}");
        }
    }
}

#[test]
fn the_gradient_is_that_of_the_definition() {
    let mut scratch = Scratch::default();
    for shape in SHAPES.map(ImageShape::from) {
        for peak in [1.0f32, 20.0] {
            let scaled = |v: Vec<f32>| v.into_iter().map(|v| v * peak).collect::<Vec<_>>();
            let (x, y) = (scaled(scene(shape, 4)), scaled(noisy(&scene(shape, 5), 0.2, 6)));
            let bank = FilterBank::new(shape, peak);
            let mut gradient = vec![f32::NAN; shape.dim()];
            let value = bank.distance_and_gradient(&x, &y, &mut gradient, &mut scratch);
            assert!((value - bank.distance(&x, &y, &mut scratch)).abs() < 1e-7);
            let (x, mut y) = (wide(&x), wide(&y));
            let largest = gradient.iter().fold(0.0f32, |m, g| m.max(g.abs()));
            // The reference is slow: some pixels of the larger images, with the first and the last.
            let step = if shape.dim() > 100 { 23 } else { 1 };
            for i in (0..shape.dim()).step_by(step).chain([shape.dim() - 1]) {
                let (was, h) = (y[i], 1e-5 * f64::from(peak));
                let mut at = |v| {
                    y[i] = v;
                    reference(&x, &y, shape, peak.into())
                };
                let want = (at(was + h) - at(was - h)) / (2.0 * h);
                y[i] = was;
                let got = f64::from(gradient[i]);
                let tolerance = 1e-5 * f64::from(largest) + 1e-9 / f64::from(peak);
                assert!((got - want).abs() < tolerance, "{shape:?}, peak {peak}, {i}: {got} against {want}");
            }
        }
    }
}

#[test]
fn filters_have_zero_mean_and_a_unit_edge_has_energy_1() {
    for (g, h) in reference_filters() {
        for f in [g, h] {
            assert!(f.iter().flatten().sum::<f64>().abs() < 1e-12);
        }
    }
    let edges: [fn(isize, isize) -> bool; 4] = [|_, x| x > 8, |y, x| x - y > 0, |y, _| y > 8, |y, x| x + y > 16];
    for ((g, h), edge) in reference_filters().iter().zip(edges) {
        let p: Plane = (0..17).map(|y| (0..17).map(|x| f64::from(u8::from(edge(y, x)))).collect()).collect();
        let m = |i: usize| respond(&p, g, i, i).hypot(respond(&p, h, i, i));
        let along = |i: usize| respond(&p, g, i, 8).hypot(respond(&p, h, i, 8));
        let across = |j: usize| respond(&p, g, 8, j).hypot(respond(&p, h, 8, j));
        let largest = (4..13).flat_map(|i| [m(i), along(i), across(i)]).fold(0.0, f64::max);
        assert!((largest - 1.0).abs() < 0.005, "{largest}");
    }
}

#[test]
fn distance_is_symmetric_and_zero_for_equal_images() {
    let mut scratch = Scratch::default();
    for shape in SHAPES.map(ImageShape::from) {
        let bank = FilterBank::new(shape, 1.0);
        let (x, y) = (scene(shape, 7), noisy(&scene(shape, 8), 0.5, 9));
        assert_eq!(bank.distance(&x, &y, &mut scratch), bank.distance(&y, &x, &mut scratch), "{shape:?}");
        let mut gradient = vec![1.0; shape.dim()];
        assert_eq!(bank.distance_and_gradient(&x, &x, &mut gradient, &mut scratch), 0.0);
        assert!(gradient.iter().all(|&g| g == 0.0), "{shape:?}");
        let distant: Vec<f32> = noisy(&x, 50.0, 10);
        let d = bank.distance(&x, &distant, &mut scratch);
        assert!(d > 0.15 && d < 1.0, "{shape:?}: {d}");
    }
}

#[test]
fn the_scale_of_the_data_is_divided_out() {
    let shape = ImageShape::from((2, 20, 20));
    let (x, y) = (scene(shape, 1), noisy(&scene(shape, 1), 0.2, 2));
    let by = |c: f32| {
        let scaled = |v: &[f32]| v.iter().map(|v| v * c).collect::<Vec<_>>();
        let mut gradient = vec![0.0; shape.dim()];
        let mut scratch = Scratch::default();
        let d = FilterBank::new(shape, c).distance_and_gradient(&scaled(&x), &scaled(&y), &mut gradient, &mut scratch);
        (d, gradient[33] * c)
    };
    // A power of two changes no bit.
    assert_eq!(by(1.0), by(64.0));
}

#[test]
fn constant_images_differ_in_brightness_only() {
    for shape in [(1, 28, 28), (3, 9, 9), (1, 1, 1), (1, 3, 5)].map(ImageShape::from) {
        let flat = |v: f32| vec![v; shape.dim()];
        let terms = (FilterBank::new(shape, 1.0).scales() + 1) as f64;
        for (a, b) in [(0.0f32, 1.0f32), (0.5, 0.6), (0.2, -0.3)] {
            let d2 = f64::from(a - b).powi(2);
            let (got, want) = (distance(&flat(a), &flat(b), shape), d2 / (d2 + 0.0625) / terms);
            assert!((got - want).abs() < 1e-6, "{shape:?}: {got} against {want}");
        }
        assert_eq!(distance(&flat(0.3), &flat(0.3), shape), 0.0);
    }
}

#[test]
fn number_of_scales_follows_the_shorter_side() {
    let scales = |h: usize, w: usize| FilterBank::new((1, h, w).into(), 1.0).scales();
    let got = [scales(28, 28), scales(64, 64), scales(500, 500), scales(11, 11), scales(10, 90), scales(1, 1)];
    assert_eq!(got, [3, 4, 4, 2, 1, 1]);
}

/// A larger change has a larger distance.
#[test]
fn grows_with_blur_noise_shift_and_contrast() {
    for shape in [(1, 28, 28), (3, 64, 64), (1, 12, 12)].map(ImageShape::from) {
        let x = scene(shape, 11);
        let mean = x.iter().sum::<f32>() / x.len() as f32;
        let contrast = |c: f32| x.iter().map(|v| mean + c * (v - mean)).collect::<Vec<_>>();
        let series: [(&str, Vec<Vec<f32>>); 5] = [
            ("blur", [1, 2, 4, 8, 16].map(|n| blurred(&x, shape, n)).to_vec()),
            ("noise", [0.02, 0.05, 0.1, 0.2, 0.4].map(|a| noisy(&x, a, 3)).to_vec()),
            ("shift", [1, 2, 3].map(|n| shifted(&x, shape, n)).to_vec()),
            ("contrast", [0.9, 0.7, 0.5, 0.3, 0.1].map(contrast).to_vec()),
            ("brightness", [0.05, 0.1, 0.2, 0.4].map(|d| x.iter().map(|v| v + d).collect()).to_vec()),
        ];
        for (name, images) in series {
            let d: Vec<f64> = images.iter().map(|y| distance(&x, y, shape)).collect();
            assert!(d[0] > 0.0 && d.is_sorted() && d.windows(2).all(|w| w[1] > 1.05 * w[0]), "{name} {shape:?}: {d:?}");
        }
    }
}

/// Among changes of the same squared error, those that are hard to see have the smallest distance.
#[test]
fn changes_of_equal_error_are_ordered_as_by_human_judgement() {
    for (shape, seed) in [((1, 28, 28), 1), ((3, 64, 64), 2), ((1, 64, 64), 3), ((1, 32, 48), 4)] {
        let shape = ImageShape::from(shape);
        let x = scene(shape, seed);
        let moved = shifted(&x, shape, 1);
        let error = mse(&x, &moved);
        let shift = distance(&x, &moved, shape);
        let bright = distance(&x, &with_mse(&x, &x.iter().map(|v| v + 1.0).collect::<Vec<_>>(), error), shape);
        let noise = distance(&x, &with_mse(&x, &noisy(&x, 1.0, 5), error), shape);
        let mut strong = 1;
        while mse(&x, &blurred(&x, shape, strong)) < error && strong < 40 {
            strong += 1;
        }
        let blur = distance(&x, &with_mse(&x, &blurred(&x, shape, strong), error), shape);
        assert!(1.5 * shift < noise && 1.5 * shift < blur, "{shape:?}: shift {shift}, noise {noise}, blur {blur}");
        assert!(bright < noise && bright < blur, "{shape:?}: bright {bright}, noise {noise}, blur {blur}");
    }
}

/// Gradient descent on a blurred image reduces both the distance and the squared error.
#[test]
fn gradient_descent_sharpens() {
    let shape = ImageShape::from((1, 28, 28));
    let x = scene(shape, 12);
    let mut y = blurred(&x, shape, 4);
    let (bank, mut scratch, mut gradient) = (FilterBank::new(shape, 1.0), Scratch::default(), vec![0.0; shape.dim()]);
    let (first, error) = (bank.distance(&x, &y, &mut scratch), mse(&x, &y));
    for _ in 0..200 {
        bank.distance_and_gradient(&x, &y, &mut gradient, &mut scratch);
        y.iter_mut().zip(&gradient).for_each(|(y, g)| *y -= 0.5 * g);
    }
    let last = bank.distance(&x, &y, &mut scratch);
    assert!(last < 0.3 * first && mse(&x, &y) < error, "{first} → {last}, {error} → {}", mse(&x, &y));
}

#[test]
fn nan_gives_nan() {
    let shape = ImageShape::from((1, 12, 12));
    let (x, mut y) = (scene(shape, 1), scene(shape, 2));
    y[70] = f32::NAN;
    assert!(distance(&x, &y, shape).is_nan());
    y[70] = 1e30;
    assert!(distance(&x, &y, shape).is_nan());
}

#[test]
#[should_panic(expected = "a peak is positive")]
fn a_peak_of_zero_panics() {
    FilterBank::new((1, 4, 4).into(), 0.0);
}
