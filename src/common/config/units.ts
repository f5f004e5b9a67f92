/** Durations and sizes in readable form. */

const msPerUnit: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

const bytesPerUnit: Readonly<Record<string, number>> = {
  "": 1,
  k: 1024,
  m: 1024 ** 2,
  g: 1024 ** 3,
};

/**
 * Parses a duration such as `500ms`, `60s` or `1m30s` to milliseconds; `0` needs no unit.
 *
 * @returns undefined if it is not a duration
 */
export function parseDuration(text: string): number | undefined {
  if (text === "0") {
    return 0;
  }
  if (!/^(\d+(\.\d+)?(ms|s|m|h|d))+$/.test(text)) {
    return undefined;
  }
  let ms = 0;
  for (const [, number, unit] of text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h|d)/g)) {
    ms += Number(number) * (msPerUnit[unit ?? ""] ?? 0);
  }
  return Math.round(ms);
}

/**
 * Parses a size such as `64MiB`, `64m` or `1024` to bytes; units are powers of 1024, as in Docker's flags.
 *
 * @returns undefined if it is not a size
 */
export function parseSize(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)\s*([kmg]?)(?:i?b)?$/i.exec(text);
  if (match === null) {
    return undefined;
  }
  return Math.round(Number(match[1]) * (bytesPerUnit[(match[2] ?? "").toLowerCase()] ?? 0));
}

/** Formats milliseconds for {@link parseDuration}. */
export function formatDuration(ms: number): string {
  for (const unit of ["d", "h", "m", "s"]) {
    const size = msPerUnit[unit] ?? 1;
    if (ms >= size && ms % size === 0) {
      return `${ms / size}${unit}`;
    }
  }
  return ms === 0 ? "0" : `${ms}ms`;
}

/** Formats bytes for {@link parseSize}. */
export function formatSize(bytes: number): string {
  for (const [unit, name] of [
    ["g", "GiB"],
    ["m", "MiB"],
    ["k", "KiB"],
  ] as const) {
    const size = bytesPerUnit[unit] ?? 1;
    if (bytes >= size && bytes % size === 0) {
      return `${bytes / size}${name}`;
    }
  }
  return String(bytes);
}
