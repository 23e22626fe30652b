// The maths of paths: the same walk along a polyline as the server's (model/trajectory.py), and what drawing needs.

const EASE = {
  linear: (t) => t,
  ease_in: (t) => t * t,
  ease_out: (t) => 1 - (1 - t) ** 2,
  ease_in_out: (t) => (t < 0.5 ? 2 * t * t : 1 - 2 * (1 - t) ** 2),
};

export const EASINGS = [
  ["linear", "Even"],
  ["ease_in", "Starts slowly"],
  ["ease_out", "Ends slowly"],
  ["ease_in_out", "Starts and ends slowly"],
];

/** How far a motion has come in each frame, 0 to 1. */
export function progress(frames, { easing = "linear", start = 0, end = frames - 1 } = {}) {
  return Array.from({ length: frames }, (_, frame) => {
    const t = end > start ? (frame - start) / (end - start) : frame - start;
    return EASE[easing](Math.min(Math.max(t, 0), 1));
  });
}

/** The point of each frame on the way along a polyline at constant speed, eased as a whole or per segment. */
export function resample(points, frames, { easing = "linear", easings = null, start = 0, end = frames - 1 } = {}) {
  if (points.length < 2) return Array.from({ length: frames }, () => [...(points[0] ?? [0, 0])]);
  const walked = [0];
  for (let i = 1; i < points.length; i++) walked.push(walked[i - 1] + distance(points[i - 1], points[i]));
  const whole = walked.at(-1) || 1;
  const knots = walked.map((length) => length / whole);
  return progress(frames, { easing: easings ? "linear" : easing, start, end }).map((t) => {
    let segment = 0;
    while (segment < points.length - 2 && knots[segment + 1] <= t) segment++;
    const span = knots[segment + 1] - knots[segment];
    let local = span > 0 ? (t - knots[segment]) / span : 1;
    if (easings) local = EASE[easings[segment]](local);
    const [first, last] = [points[segment], points[segment + 1]];
    return local === 1 ? [...last] : [0, 1].map((axis) => first[axis] + (last[axis] - first[axis]) * local);
  });
}

/** A camera's move added to a track: zoom and turn about the middle, then shift; complete in the last frame. */
export function follow(track, [width, height], camera, loop = false) {
  const moved = cameraAt(camera, track.length, loop);
  return track.map(([x, y], frame) => {
    const { angle, factor, pan } = moved[frame];
    const [dx, dy] = [x - width / 2, y - height / 2];
    const [c, s] = [factor * Math.cos(angle), factor * Math.sin(angle)];
    return [x + dx * c - dy * s - dx + pan[0], y + dx * s + dy * c - dy + pan[1]];
  });
}

/** How far a camera has turned (radians), zoomed and shifted the picture in each frame. */
export function cameraAt({ pan, zoom, roll, easing }, frames, loop = false) {
  const time = wayOut(progress(outward(frames, loop), { easing }), frames, loop);
  return time.map((t) => ({ angle: ((roll * Math.PI) / 180) * t, factor: zoom ** t, pan: [t * pan[0], t * pan[1]] }));
}

/** How many frames lead out; in a loop the rest lead back. */
export const outward = (frames, loop) => (loop ? Math.floor((frames - 1) / 2) + 1 : frames);

/** What each frame shows of something that is laid out for the way out. */
const wayOut = (out, frames, loop) => (loop ? Array.from({ length: frames }, (_, i) => out[Math.min(i, frames - 1 - i)]) : out);

/** The first and the last frame that an entity moves in, in a video whose way out ends at `last`. */
export function span({ start, end }, last) {
  const from = Math.min(start ?? 0, Math.max(last - 1, 0));
  return [from, Math.min(Math.max(end ?? last, from + 1), last)];
}

/** An entity's track in a doc, its camera included; null where it has no place yet. */
export function trackOf(entity, doc, frames) {
  const points = pointsOf(entity);
  if (!points) return null;
  const { easing, easings } = entity;
  const loops = doc.loop && !isClosed(points);
  const out = outward(frames, loops);
  const [start, end] = span(entity, out - 1);
  const track = wayOut(resample(points, out, { easing, easings, start, end }), frames, loops);
  return follow(track, [doc.image.width, doc.image.height], doc.camera, doc.loop);
}

/** The factor on an entity's size in each frame. */
export function sizesOf({ scale: [from, to] }, doc, frames) {
  const out = outward(frames, doc.loop);
  return wayOut(Array.from({ length: out }, (_, i) => from + ((to - from) * i) / Math.max(out - 1, 1)), frames, doc.loop);
}

/** A path that ends where it starts is gone once in a loop too. */
export const isClosed = (points) => points.length > 1 && points[0].every((value, axis) => value === points.at(-1)[axis]);

/** A path, or where an entity without one stands. */
export function pointsOf(entity) {
  if (entity.path.length) return entity.path;
  const anchor = entity.mask?.anchor;
  return anchor ? [anchor] : null;
}

/** A freehand line with as few points as keep it within `tolerance` (Ramer, Douglas and Peucker). */
export function simplify(points, tolerance) {
  if (points.length < 3) return points;
  const [first, last] = [points[0], points.at(-1)];
  let [worst, at] = [-1, 0];
  for (let i = 1; i < points.length - 1; i++) {
    const off = toSegment(points[i], first, last).distance;
    if (off > worst) [worst, at] = [off, i];
  }
  if (worst <= tolerance) return [first, last];
  return [...simplify(points.slice(0, at + 1), tolerance).slice(0, -1), ...simplify(points.slice(at), tolerance)];
}

/** The nearest place on a polyline: its distance, the segment it lies on, and the point. */
export function nearest(point, line) {
  let best = { distance: Infinity, segment: -1, point: null };
  for (let i = 0; i + 1 < line.length; i++) {
    const found = toSegment(point, line[i], line[i + 1]);
    if (found.distance < best.distance) best = { ...found, segment: i };
  }
  return best;
}

function toSegment(point, a, b) {
  const [dx, dy] = [b[0] - a[0], b[1] - a[1]];
  const squared = dx * dx + dy * dy;
  const t = squared ? Math.min(Math.max(((point[0] - a[0]) * dx + (point[1] - a[1]) * dy) / squared, 0), 1) : 0;
  const on = [a[0] + t * dx, a[1] + t * dy];
  return { distance: distance(point, on), point: on };
}

/** A point moved so that the line from `from` to it runs in steps of 45°. */
export function snapTo45(from, point) {
  const step = Math.PI / 4;
  const angle = Math.round(Math.atan2(point[1] - from[1], point[0] - from[0]) / step) * step;
  const along = (point[0] - from[0]) * Math.cos(angle) + (point[1] - from[1]) * Math.sin(angle);
  return [from[0] + along * Math.cos(angle), from[1] + along * Math.sin(angle)];
}

/** A path mirrored at the upright line through its first point. */
export const mirror = (path) => path.map(([x, y]) => [2 * path[0][0] - x, y]);

/** A path that starts somewhere else. */
export const moveTo = (path, [x, y]) => path.map((point) => [point[0] + x - path[0][0], point[1] + y - path[0][1]]);

export const distance = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]);
