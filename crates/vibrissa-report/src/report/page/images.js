// Images: sprite sheets decoded once, the diverging colour map, and the two overlays.

// 256 colours from blue (0) over near-white (128) to red (255), the map of plot/colour.rs, computed in Oklab.
const divergingColours = (() => {
  const colours = new Uint8ClampedArray(256 * 3);
  for (let i = 0; i < 256; i++) {
    const value = Math.max(-1, (i - 128) / 127);
    const size = Math.abs(value);
    const lightness = 0.975 - 0.595 * size;
    const chroma = 0.155 * (1 - (1 - size) ** 2.2) * (1 - 0.22 * size * size);
    const hue = ((value < 0 ? 254 : 27) * Math.PI) / 180;
    const [a, b] = [chroma * Math.cos(hue), chroma * Math.sin(hue)];
    const l = (lightness + 0.39633778 * a + 0.21580376 * b) ** 3;
    const m = (lightness - 0.105561346 * a - 0.06385417 * b) ** 3;
    const s = (lightness - 0.08948418 * a - 1.2914855 * b) ** 3;
    const linear = [
      4.0767417 * l - 3.3077116 * m + 0.23096994 * s,
      -1.268438 * l + 2.6097574 * m - 0.3413194 * s,
      -0.0041960863 * l - 0.7034186 * m + 1.7076147 * s,
    ];
    linear.forEach((v, channel) => {
      colours[i * 3 + channel] = 255 * (v <= 0.0031308 ? 12.92 * v : 1.055 * v ** (1 / 2.4) - 0.055);
    });
  }
  return colours;
})();

// The sprite sheet of a column as a canvas; signed grey images go through the diverging map.
const sheetCache = new Map();
const sheet = (name, signed) => {
  const key = `${name} ${signed}`;
  if (!sheetCache.has(key)) sheetCache.set(key, decodeSheet(imageColumn(name), signed));
  return sheetCache.get(key);
};
const decodeSheet = async (images, signed) => {
  if (!images) return null;
  const bitmap = await createImageBitmap(new Blob([bytesOf(images.png)], { type: "image/png" }));
  const canvas = element("canvas", { width: bitmap.width, height: bitmap.height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  if (signed && images.channels === 1) {
    const whole = context.getImageData(0, 0, canvas.width, canvas.height);
    const pixels = whole.data;
    for (let p = 0; p < pixels.length; p += 4) {
      const at = pixels[p] * 3;
      for (let channel = 0; channel < 3; channel++) pixels[p + channel] = divergingColours[at + channel];
    }
    context.putImageData(whole, 0, 0);
  }
  return canvas;
};

// The rectangle of image `i` on its sheet: x, y, width, height.
const spriteRect = (images, i) => {
  const [x, y] = [i % images.columns, Math.floor(i / images.columns)];
  return [x * images.width, y * images.height, images.width, images.height];
};
const spritePixels = (canvas, images, i) => canvas.getContext("2d").getImageData(...spriteRect(images, i)).data;

const emptyCanvas = (width, height, label, kind = "image") =>
  element("canvas", { class: kind, width, height, role: "img", "aria-label": label });

// Image `i` of a column, or null if the record has no such images.
const imageCanvas = (name, i, signed, label) => {
  const images = imageColumn(name);
  if (!images) return null;
  const canvas = emptyCanvas(images.width, images.height, label);
  sheet(name, signed).then((sprites) => {
    canvas.getContext("2d").drawImage(sprites, ...spriteRect(images, i), 0, 0, images.width, images.height);
  });
  return canvas;
};

// Cited row `i` overlaid with the product of row and decoder direction, pixel by pixel: warm where the product is
// positive, cold where it is negative. `tile` is the place of the feature among the images of features.
const matchOverlay = (sae, tile, i, label) => {
  const [rows, features] = [imageColumn("cited"), imageColumn(`${sae}.wall`)];
  const canvas = emptyCanvas(rows.width, rows.height, label);
  Promise.all([sheet("cited", false), sheet(`${sae}.wall`, false)]).then(([rowSheet, featureSheet]) => {
    const [row, feature] = [spritePixels(rowSheet, rows, i), spritePixels(featureSheet, features, tile)];
    const product = new Float32Array(rows.width * rows.height);
    let largest = 1e-9;
    for (let p = 0; p < product.length; p++) {
      const channels = features.channels === 3 ? 3 : 1;
      for (let channel = 0; channel < channels; channel++) {
        product[p] += (feature[4 * p + channel] - 128) * row[4 * p + channel];
      }
      largest = Math.max(largest, Math.abs(product[p]));
    }
    const image = new ImageData(rows.width, rows.height);
    for (let p = 0; p < product.length; p++) {
      const grey = 0.3 * row[4 * p] + 0.59 * row[4 * p + 1] + 0.11 * row[4 * p + 2];
      const opacity = Math.min(1, Math.abs(product[p]) / largest) ** 0.7 * 0.85;
      const tone = product[p] > 0 ? [214, 64, 42] : [58, 122, 190];
      for (let channel = 0; channel < 3; channel++) {
        image.data[4 * p + channel] = (1 - opacity) * (40 + 0.7 * grey) + opacity * tone[channel];
      }
      image.data[4 * p + 3] = 255;
    }
    canvas.getContext("2d").putImageData(image, 0, 0);
  });
  return canvas;
};

// Borders between neighbouring patches, pixels: each pixel belongs to the patch whose centre is nearest.
const patchBorders = (starts, side, length) => [
  0,
  ...starts.slice(1).map((start, j) => (starts[j] + start + side) / 2),
  length,
];

// The whole image of a cited patch with a frame around the patch. With `map`, the number of an activation map, also the
// activation of the feature at every place of the image.
const imageWithPatch = (sae, i, map, label) => {
  const images = imageColumn("picture");
  const factor = Math.max(1, Math.round(168 / images.width));
  const canvas = emptyCanvas(images.width * factor, images.height * factor, label);
  const maps = map === undefined ? null : sheet(`${sae}.map`, false);
  Promise.all([sheet("picture", false), maps]).then(([imageSheet, mapSheet]) => {
    const context = canvas.getContext("2d");
    const [, height, width] = analysis.pictures;
    const [scaleX, scaleY] = [canvas.width / width, canvas.height / height];
    context.imageSmoothingEnabled = false;
    context.drawImage(imageSheet, ...spriteRect(images, column("cited_picture")[i]), 0, 0, canvas.width, canvas.height);
    if (mapSheet) drawActivationMap(canvas, mapSheet, imageColumn(`${sae}.map`), map, [scaleX, scaleY]);
    const [top, left] = analysis.cited[i].place;
    for (const [style, lineWidth] of [
      ["#000", 4],
      ["#ffd84a", 2],
    ]) {
      Object.assign(context, { strokeStyle: style, lineWidth });
      context.strokeRect(left * scaleX, top * scaleY, patches.width * scaleX, patches.height * scaleY);
    }
  });
  return canvas;
};

const drawActivationMap = (canvas, mapSheet, maps, map, [scaleX, scaleY]) => {
  const context = canvas.getContext("2d");
  const [, height, width] = analysis.pictures;
  const ys = patchBorders(patches.tops, patches.height, height).map((y) => Math.round(y * scaleY));
  const xs = patchBorders(patches.lefts, patches.width, width).map((x) => Math.round(x * scaleX));
  const values = spritePixels(mapSheet, maps, map);
  context.fillStyle = "rgba(40, 40, 40, 0.35)";
  context.fillRect(0, 0, canvas.width, canvas.height);
  for (let row = 0; row < maps.height; row++) {
    for (let place = 0; place < maps.width; place++) {
      const opacity = (0.85 * values[4 * (row * maps.width + place)]) / 255;
      context.fillStyle = `rgba(224, 70, 36, ${opacity.toFixed(3)})`;
      context.fillRect(xs[place], ys[row], xs[place + 1] - xs[place], ys[row + 1] - ys[row]);
    }
  }
};

// The place of a feature among the images of features; undefined for a dead one, which has no image.
const tileCache = new Map();
const tileOf = (sae, latent) => {
  if (!tileCache.has(sae)) {
    tileCache.set(sae, new Map(Array.from(column(`${sae}.wall_of`), (shown, i) => [shown, i])));
  }
  return tileCache.get(sae).get(latent);
};

// The image of a feature's decoder direction; null where rows are not images.
const featureImage = (sae, latent) => {
  const [tile, label] = [tileOf(sae, latent), t("feature", { h: latent })];
  if (tile !== undefined) return imageCanvas(`${sae}.wall`, tile, true, label);
  return imageColumn(`${sae}.wall`) ? emptyCanvas(8, 8, label, "image none") : null;
};
