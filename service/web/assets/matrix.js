// Draws a matrix of weights from 0 to 1 on a canvas, with its labels. Colours come from the style of the canvas.

const CELL = { least: 14, most: 30 }; // CSS pixels
const LABEL = 96; // room for a label at most
const FONT = '12px Inter, system-ui, "Segoe UI", Roboto, sans-serif';
const LINE = 14;
const GAP = 6;

/** The square root keeps small weights visible. */
const shade = (weight) => Math.sqrt(Math.min(1, Math.max(0, weight)));

export function drawMatrix(canvas, { weights, rows, columns, cell }) {
  const context = canvas.getContext("2d");
  context.font = FONT;
  const side = Math.min(LABEL, widest(context, rows)) + GAP;
  const top = Math.min(LABEL, widest(context, columns)) + GAP;
  const room = (canvas.parentElement.clientWidth - 8 - side) / columns.length;
  const size = Math.floor(Math.max(CELL.least, Math.min(CELL.most, room)));
  resize(canvas, context, side + size * columns.length + 1, top + size * rows.length + 1);
  const { color, borderColor, outlineColor } = getComputedStyle(canvas); // ink, lines, weights
  canvas.geometry = { side, top, size, rows: rows.length, columns: columns.length };

  context.fillStyle = outlineColor;
  weights.forEach((weight, i) => {
    const [row, column] = [Math.floor(i / columns.length), i % columns.length];
    context.globalAlpha = shade(weight);
    context.fillRect(side + column * size, top + row * size, size - 1, size - 1);
  });
  context.globalAlpha = 1;
  context.strokeStyle = borderColor;
  context.strokeRect(side - 0.5, top - 0.5, size * columns.length, size * rows.length);

  context.font = FONT;
  context.textBaseline = "middle";
  rows.forEach((label, row) => {
    context.fillStyle = color;
    context.globalAlpha = !cell || cell.row === row ? 1 : 0.45;
    context.textAlign = "right";
    context.fillText(fitted(context, label), side - GAP, top + (row + 0.5) * size);
  });
  columns.forEach((label, column) => {
    context.globalAlpha = !cell || cell.column === column ? 1 : 0.45;
    context.save();
    context.translate(side + (column + 0.5) * size, top - GAP);
    context.rotate(-Math.PI / 2);
    context.textAlign = "left";
    context.fillText(fitted(context, label), 0, 0);
    context.restore();
  });
  context.globalAlpha = 1;
  if (cell) {
    context.lineWidth = 2;
    context.strokeStyle = color;
    context.strokeRect(side + cell.column * size, top + cell.row * size, size - 1, size - 1);
  }
}

/** The cell at a point of the canvas, or null. */
export function cellAt({ geometry: { side, top, size, rows, columns } }, x, y) {
  const [row, column] = [Math.floor((y - top) / size), Math.floor((x - side) / size)];
  return row >= 0 && row < rows && column >= 0 && column < columns ? { row, column } : null;
}

/** The matrix alone, as wide and high as the canvas is. */
export function drawThumbnail(canvas, weights, rows) {
  const context = canvas.getContext("2d");
  const columns = weights.length / rows;
  context.fillStyle = getComputedStyle(canvas).outlineColor;
  const [width, height] = [canvas.width / columns, canvas.height / rows];
  weights.forEach((weight, i) => {
    context.globalAlpha = shade(weight);
    context.fillRect((i % columns) * width, Math.floor(i / columns) * height, width, height);
  });
}

function resize(canvas, context, width, height) {
  const scale = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  context.scale(scale, scale);
}

const widest = (context, labels) => Math.ceil(Math.max(LINE, ...labels.map((label) => context.measureText(label).width)));

function fitted(context, label) {
  if (context.measureText(label).width <= LABEL) return label;
  let end = label.length - 1;
  while (end > 1 && context.measureText(`${label.slice(0, end)}…`).width > LABEL) end--;
  return `${label.slice(0, end)}…`;
}
