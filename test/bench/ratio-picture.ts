/** A bench's table as a picture: a bar for each measure, of how many times as fast as dockerd it is. */
import type { Unit } from "./measures.ts";

/** A row of the table. */
export interface ComparedRow {
  readonly name: string;
  readonly unit: Unit;
  /** Our median divided by dockerd's. */
  readonly ratio: number;
}

const [labels, width, rowHeight, top, right] = [400, 420, 22, 44, 60];
/** The least and the most that the scale has, in doublings: what is beyond ends at its edge. */
const [least, most] = [-4, 6];
const colours = { faster: "#2563eb", slower: "#d97706" } as const;

/** How many times as fast as dockerd. */
const speedOf = ({ unit, ratio }: ComparedRow): number =>
  unit === "ms" || unit === "MB" ? 1 / ratio : ratio;

/** An SVG document. */
export function ratioPicture(rows: readonly ComparedRow[]): string {
  const height = top + rows.length * rowHeight + 12;
  const x = (doublings: number): number =>
    Math.round(labels + ((Math.min(most, Math.max(least, doublings)) - least) / (most - least)) * width);
  const scale = Array.from({ length: (most - least) / 2 + 1 }, (_, at) => least + 2 * at).map(
    (doublings) =>
      `<path d="M${x(doublings)} ${top - 8} V${height - 8}" stroke="${doublings === 0 ? "#334155" : "#cbd5e1"}"/>` +
      `<text x="${x(doublings)}" y="${top - 14}" text-anchor="middle" fill="#64748b">${doublings < 0 ? `1/${2 ** -doublings}` : 2 ** doublings} ×</text>`,
  );
  const bars = rows.map((row, at) => {
    const speed = speedOf(row);
    const [from, to] = [x(0), x(Math.log2(speed))];
    const y = top + at * rowHeight;
    return [
      `<text x="${labels - 8}" y="${y + 14}" text-anchor="end" fill="#334155">${escaped(row.name)}</text>`,
      `<rect x="${Math.min(from, to)}" y="${y + 3}" width="${Math.abs(to - from)}" height="${rowHeight - 8}" fill="${speed >= 1 ? colours.faster : colours.slower}"/>`,
      `<text x="${Math.max(from, to) + 4}" y="${y + 14}" fill="#64748b">${speed.toFixed(speed < 10 ? 1 : 0)} ×</text>`,
    ].join("\n");
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${labels + width + right} ${height}" font-family="system-ui, sans-serif" font-size="12" role="img" aria-labelledby="title">`,
    `<title id="title">How many times as fast as dockerd sockerless is, by measure</title>`,
    ...scale,
    ...bars,
    "</svg>\n",
  ].join("\n");
}

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
}
