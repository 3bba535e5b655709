// Square codes (QR code model 2, ISO/IEC 18004): bytes, error correction level M, versions 1 to 13.

/** Words of error correction for each block, and the blocks' counts of data words, by version from 1 (level M). */
const BLOCKS = [
  [10, [[1, 16]]], [16, [[1, 28]]], [26, [[1, 44]]], [18, [[2, 32]]], [24, [[2, 43]]], [16, [[4, 27]]], [18, [[4, 31]]],
  [22, [[2, 38], [2, 39]]], [22, [[3, 36], [2, 37]]], [26, [[4, 43], [1, 44]]], [30, [[1, 50], [4, 51]]], [22, [[6, 36], [2, 37]]],
  [22, [[8, 37], [1, 38]]],
];
/** Centres of the alignment patterns, by version from 1. */
const CENTRES = [
  [], [6, 18], [6, 22], [6, 26], [6, 30], [6, 34], [6, 22, 38], [6, 24, 42], [6, 26, 46], [6, 28, 50], [6, 30, 54], [6, 32, 58],
  [6, 34, 62],
];
const MASKS = [
  (x, y) => (x + y) % 2, (x, y) => y % 2, (x) => x % 3, (x, y) => (x + y) % 3,
  (x, y) => (Math.floor(y / 2) + Math.floor(x / 3)) % 2, (x, y) => ((x * y) % 2) + ((x * y) % 3),
  (x, y) => (((x * y) % 2) + ((x * y) % 3)) % 2, (x, y) => (((x + y) % 2) + ((x * y) % 3)) % 2,
];

/** GF(256) with the polynomial x⁸ + x⁴ + x³ + x² + 1: powers of 2 and their logarithms. */
const POWER = new Uint8Array(255);
const LOGARITHM = new Uint8Array(256);
for (let i = 0, x = 1; i < 255; i += 1) {
  POWER[i] = x;
  LOGARITHM[x] = i;
  x = (x << 1) ^ (x & 0x80 ? 0x11d : 0);
}
const times = (a, b) => (a && b ? POWER[(LOGARITHM[a] + LOGARITHM[b]) % 255] : 0);

/** The rows of the code that says `text`, true where it is dark; nothing where the text is too long. */
export function encode(text) {
  const bytes = new TextEncoder().encode(text);
  for (let version = 1; version <= BLOCKS.length; version += 1) {
    const [, blocks] = BLOCKS[version - 1];
    const capacity = blocks.reduce((sum, [count, words]) => sum + count * words, 0);
    const lengthBits = version < 10 ? 8 : 16;
    if (4 + lengthBits + 8 * bytes.length <= 8 * capacity) return drawn(version, interleaved(version, words(bytes, lengthBits, capacity)));
  }
  return null;
}

/** Draws the code that says `text` with its quiet margin; false where the text is too long. */
export function draw(canvas, text) {
  const rows = encode(text);
  if (!rows) return false;
  const scale = 6;
  canvas.width = canvas.height = (rows.length + 8) * scale;
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.fillStyle = "#000";
  rows.forEach((row, y) => row.forEach((dark, x) => dark && context.fillRect((x + 4) * scale, (y + 4) * scale, scale, scale)));
  return true;
}

/** Mode, length, bytes, terminator and padding as words. */
function words(bytes, lengthBits, capacity) {
  const bits = [];
  const put = (value, count) => {
    for (let i = count - 1; i >= 0; i -= 1) bits.push((value >> i) & 1);
  };
  put(4, 4);
  put(bytes.length, lengthBits);
  for (const byte of bytes) put(byte, 8);
  put(0, Math.min(4, 8 * capacity - bits.length));
  put(0, (8 - (bits.length % 8)) % 8);
  for (let pad = 0xec; bits.length < 8 * capacity; pad ^= 0xec ^ 0x11) put(pad, 8);
  return Array.from({ length: capacity }, (_, i) => bits.slice(8 * i, 8 * i + 8).reduce((byte, bit) => 2 * byte + bit, 0));
}

/** Data and correction words of all blocks in the order in which they are drawn. */
function interleaved(version, data) {
  const [corrections, kinds] = BLOCKS[version - 1];
  const blocks = [];
  let at = 0;
  for (const [count, length] of kinds) {
    for (let i = 0; i < count; i += 1, at += length) blocks.push(data.slice(at, at + length));
  }
  const checks = blocks.map((block) => remainder(block, corrections));
  const out = [];
  for (let i = 0; i < Math.max(...blocks.map((block) => block.length)); i += 1) {
    for (const block of blocks) if (i < block.length) out.push(block[i]);
  }
  for (let i = 0; i < corrections; i += 1) for (const check of checks) out.push(check[i]);
  return out;
}

/** The remainder of the block's polynomial by (x - 2⁰)(x - 2¹)…, `count` factors. */
function remainder(block, count) {
  let divisor = [1];
  for (let i = 0; i < count; i += 1) {
    divisor = [...divisor, 0].map((term, k) => term ^ (k ? times(divisor[k - 1], POWER[i]) : 0));
  }
  const rest = [...block, ...new Array(count).fill(0)];
  for (let i = 0; i < block.length; i += 1) {
    const lead = rest[i];
    divisor.forEach((term, k) => {
      rest[i + k] ^= times(term, lead);
    });
  }
  return rest.slice(block.length);
}

/** The code with the mask that disturbs a reader least. */
function drawn(version, data) {
  let best = null;
  for (let mask = 0; mask < MASKS.length; mask += 1) {
    const rows = masked(version, data, mask);
    const cost = penalty(rows);
    if (!best || cost < best.cost) best = { rows, cost };
  }
  return best.rows;
}

function masked(version, data, mask) {
  const side = 17 + 4 * version;
  const rows = Array.from({ length: side }, () => new Array(side).fill(false));
  const fixed = Array.from({ length: side }, () => new Array(side).fill(false));
  const set = (x, y, dark) => {
    rows[y][x] = dark;
    fixed[y][x] = true;
  };
  for (let i = 0; i < side; i += 1) {
    set(6, i, i % 2 === 0);
    set(i, 6, i % 2 === 0);
  }
  for (const [left, top] of [[3, 3], [side - 4, 3], [3, side - 4]]) {
    for (let dy = -4; dy <= 4; dy += 1) {
      for (let dx = -4; dx <= 4; dx += 1) {
        const [x, y, ring] = [left + dx, top + dy, Math.max(Math.abs(dx), Math.abs(dy))];
        if (x >= 0 && y >= 0 && x < side && y < side) set(x, y, ring !== 2 && ring !== 4);
      }
    }
  }
  const centres = CENTRES[version - 1];
  const last = centres.at(-1);
  for (const cy of centres) {
    for (const cx of centres) {
      if ((cx === 6 && cy === 6) || (cx === 6 && cy === last) || (cx === last && cy === 6)) continue;
      for (let dy = -2; dy <= 2; dy += 1) {
        for (let dx = -2; dx <= 2; dx += 1) set(cx + dx, cy + dy, Math.max(Math.abs(dx), Math.abs(dy)) !== 1);
      }
    }
  }
  // Level M is 00, so that the format's data are the mask alone.
  const format = ((mask << 10) | coded(mask, 0x537, 10)) ^ 0x5412;
  for (let i = 0; i < 15; i += 1) {
    const dark = ((format >> i) & 1) === 1;
    if (i < 8) {
      set(8, i < 6 ? i : i + 1, dark);
      set(side - 1 - i, 8, dark);
    } else {
      set(i === 8 ? 7 : 14 - i, 8, dark);
      set(8, side - 15 + i, dark);
    }
  }
  set(8, side - 8, true);
  if (version >= 7) {
    const bits = (version << 12) | coded(version, 0x1f25, 12);
    for (let i = 0; i < 18; i += 1) {
      const [a, b, dark] = [side - 11 + (i % 3), Math.floor(i / 3), ((bits >> i) & 1) === 1];
      set(a, b, dark);
      set(b, a, dark);
    }
  }
  let bit = 0;
  for (let right = side - 1; right >= 1; right -= 2) {
    if (right === 6) right = 5;
    for (let step = 0; step < side; step += 1) {
      const y = ((right + 1) & 2) === 0 ? side - 1 - step : step;
      for (const x of [right, right - 1]) {
        if (fixed[y][x]) continue;
        const dark = bit < 8 * data.length && ((data[bit >> 3] >> (7 - (bit & 7))) & 1) === 1;
        rows[y][x] = dark !== (MASKS[mask](x, y) === 0);
        bit += 1;
      }
    }
  }
  return rows;
}

/** The remainder of a binary cyclic code. */
function coded(value, divisor, bits) {
  let rest = value;
  for (let i = 0; i < bits; i += 1) rest = (rest << 1) ^ ((rest >> (bits - 1)) * divisor);
  return rest;
}

/** The standard's measure of what disturbs a reader: runs, blocks, false finders, an uneven share of dark. */
function penalty(rows) {
  const side = rows.length;
  let cost = 0;
  let dark = 0;
  const lines = [...rows, ...rows.map((_, x) => rows.map((row) => row[x]))];
  for (const line of lines) {
    let run = 1;
    for (let i = 1; i <= side; i += 1) {
      if (i < side && line[i] === line[i - 1]) run += 1;
      else {
        if (run >= 5) cost += run - 2;
        run = 1;
      }
    }
    const text = line.map((cell) => (cell ? "1" : "0")).join("");
    for (const finder of ["10111010000", "00001011101"]) {
      for (let at = text.indexOf(finder); at >= 0; at = text.indexOf(finder, at + 1)) cost += 40;
    }
  }
  for (let y = 0; y < side; y += 1) {
    for (let x = 0; x < side; x += 1) {
      if (rows[y][x]) dark += 1;
      if (x && y && rows[y][x] === rows[y - 1][x] && rows[y][x] === rows[y][x - 1] && rows[y][x] === rows[y - 1][x - 1]) cost += 3;
    }
  }
  return cost + 10 * Math.floor(Math.abs((dark * 20) / (side * side) - 10));
}
