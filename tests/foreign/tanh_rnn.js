// A program that bptt judge calls, whole: tanh_rnn by hand, in JavaScript without packages.
//
//     bptt judge --command "node tanh_rnn.js" --cell tanh_rnn
//
// A case is a line of JSON on standard input, its result a line on standard output.  JavaScript reads the 17 digits of
// "values" exactly and writes numbers so that they can be.  Called with "wrong" it uses h[t] where h[t-1] belongs.
"use strict";

const wrong = process.argv[2] === "wrong";

/** Rows of an array: nested lists of its numbers; null stays null. */
function nested(array) {
  if (array === null || array === undefined) return null;
  let rows = array.values;
  for (const n of array.shape.slice(1).reverse()) {
    const wider = [];
    for (let i = 0; i < rows.length; i += n) wider.push(rows.slice(i, i + n));
    rows = wider;
  }
  return array.shape.length ? rows : rows[0];
}

const nestedAll = (arrays) => Object.fromEntries(Object.entries(arrays ?? {}).map(([name, a]) => [name, nested(a)]));
const zeros = (n, ...rest) => Array.from({ length: n }, () => (rest.length ? zeros(...rest) : 0));
const dot = (a, b) => a.reduce((sum, v, i) => sum + v * b[i], 0);
const times = (W, v) => W.map((row) => dot(row, v));
const timesTransposed = (W, v) => W[0].map((_, j) => W.reduce((sum, row, i) => sum + row[j] * v[i], 0));
const addOuter = (into, a, b) => a.forEach((v, i) => b.forEach((u, j) => { into[i][j] += v * u; }));

/** The loss of one step, and its gradient by the value that it reads. */
function lossOf(kind, value, target) {
  const goal = Array.isArray(target) ? target : value.map((_, k) => (k === target ? 1 : 0));
  if (kind === "squared_error") {
    const error = value.map((v, k) => v - goal[k]);
    return [dot(error, error) / 2, error];
  }
  const top = Math.max(...value);
  const powers = value.map((v) => Math.exp(v - top));
  const sum = powers.reduce((a, b) => a + b, 0);
  const mass = goal.reduce((a, b) => a + b, 0);
  const loss = value.reduce((all, v, k) => all + goal[k] * (top + Math.log(sum) - v), 0);
  return [loss, powers.map((p, k) => (mass * p) / sum - goal[k])];
}

/** h[0], h[1], ... and y[1], ... of one sequence of `end` steps. */
function forward({ W_hh, W_xh, W_hy, b }, xs, h0, end) {
  const h = [h0];
  const y = [];
  for (let t = 0; t < end; t++) {
    const recurrent = times(W_hh, h[t]);
    const driven = times(W_xh, xs[t]);
    h.push(b.map((bias, i) => Math.tanh(recurrent[i] + driven[i] + bias)));
    y.push(times(W_hy, h[t + 1]));
  }
  return [h, y];
}

/** The result of a case. */
function backward(c) {
  const { T, B } = c;
  const { H, D, O } = c.sizes;
  const params = nestedAll(c.params);
  const [x, targets, cotangents] = [nested(c.inputs.x), nested(c.targets), nestedAll(c.cotangents)];
  const lengths = nested(c.lengths) ?? zeros(B).map(() => T);
  const last = c.at === "last";
  const weight = c.reduction === "mean" ? 1 / (last ? B : lengths.reduce((a, b) => a + b, 0)) : 1;
  const grads = {
    W_hh: zeros(H, H), W_xh: zeros(H, D), W_hy: zeros(O, H), b: zeros(H), x: zeros(T, B, D), h0: zeros(B, H),
  };
  const outputs = { y: zeros(T, B, O) };
  let loss = 0;
  for (let s = 0; s < B; s++) {
    const end = lengths[s];
    const [h, y] = forward(params, x.map((row) => row[s]), nested(c.initial.h)[s], end);
    let carry = zeros(H);
    for (let t = end; t >= 1; t--) {
      outputs.y[t - 1][s] = y[t - 1];
      const read = { y: y[t - 1], h: h[t] };
      const by = { y: zeros(O), h: zeros(H) };
      const at = (array) => (last ? array[s] : array[t - 1][s]);
      if (!last || t === end) {
        if (c.loss === "linear") {
          for (const [name, array] of Object.entries(cotangents)) {
            by[name] = at(array).map((v) => weight * v);
            loss += dot(by[name], read[name]);
          }
        } else {
          const [value, gradient] = lossOf(c.loss, read[c.on], at(targets));
          by[c.on] = gradient.map((v) => weight * v);
          loss += weight * value;
        }
      }
      const fromOutput = timesTransposed(params.W_hy, by.y);
      const delta = h[t].map((v, i) => (by.h[i] + fromOutput[i] + carry[i]) * (1 - v * v));
      addOuter(grads.W_hy, by.y, h[t]);
      addOuter(grads.W_hh, delta, wrong ? h[t] : h[t - 1]);
      addOuter(grads.W_xh, delta, x[t - 1][s]);
      delta.forEach((v, i) => { grads.b[i] += v; });
      grads.x[t - 1][s] = timesTransposed(params.W_xh, delta);
      carry = timesTransposed(params.W_hh, delta);
    }
    grads.h0[s] = carry;
  }
  return { grads, loss, outputs };
}

function answer(request) {
  const c = request.case;
  if (c.cell !== "tanh_rnn") return { declined: "another cell" };
  if (c.truncate !== null) return { declined: "no truncation" };
  try {
    return backward(c);
  } catch (error) {
    return { error: String(error) };
  }
}

require("readline").createInterface({ input: process.stdin }).on("line", (line) => {
  const request = JSON.parse(line);
  process.stdout.write(`${JSON.stringify({ id: request.id, ...answer(request) })}\n`);
});
