/** The curves of pools as a picture: waiting saved by euros a day, a panel for each team. */
import type { CurvePoint } from "./pool-curve.ts";

const [width, height, left, top, bottom] = [400, 300, 56, 40, 48];
/** The picture ends at so many times the cost of the largest learned pool: the largest fixed ones cost far more. */
const shownBeyond = 1.8;
const colours = { naive: "#94a3b8", fixed: "#d97706", learned: "#2563eb" } as const;

/** An SVG document. */
export function curvePicture(points: readonly CurvePoint[], eurosPerDollar: number): string {
  const panels = Map.groupBy(points, ({ team }) => team);
  const drawn = [...panels].map(
    ([team, own], index) =>
      `<g transform="translate(${index * (width + left)} 0)">\n${panel(team, own, eurosPerDollar)}\n</g>`,
  );
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${panels.size * (width + left)} ${height + top + bottom}" font-family="system-ui, sans-serif" font-size="13" role="img" aria-labelledby="title">`,
    `<title id="title">Waiting saved by the cost of waiting tasks, for three kinds of pools</title>`,
    ...drawn,
    "</svg>\n",
  ].join("\n");
}

function panel(team: string, points: readonly CurvePoint[], eurosPerDollar: number): string {
  const learned = points.filter(({ policy }) => policy === "learned");
  const most = Math.max(...learned.map(({ cost }) => cost)) * eurosPerDollar * shownBeyond;
  const x = (euros: number): number => Math.round(left + (euros / most) * (width - left - 20));
  const y = (share: number): number => Math.round(top + (1 - share) * height);
  const shares = [0, 0.25, 0.5, 0.75, 1].map(
    (share) =>
      `<path d="M${left} ${y(share)} H${width}" stroke="#cbd5e1"/><text x="${left - 6}" y="${y(share) + 4}" text-anchor="end" fill="#64748b">${share}</text>`,
  );
  const costs = [0.25, 0.5, 0.75, 1].map(
    (part) =>
      `<text x="${x(most * part)}" y="${top + height + 18}" text-anchor="middle" fill="#64748b">${(most * part).toFixed(2)} €</text>`,
  );
  const curves = [...Map.groupBy(points, ({ policy }) => policy)].map(([policy, own]) => {
    const shown = own
      .map(({ cost, saved }) => ({ euros: cost * eurosPerDollar, saved }))
      .filter(({ euros }) => euros <= most)
      .map(({ euros, saved }) => ({ x: x(euros), y: y(saved) }));
    const line = shown.map((point) => `${point.x},${point.y}`).join(" ");
    const last = shown.at(-1) ?? { x: left, y: y(0) };
    return [
      `<polyline points="${line}" fill="none" stroke="${colours[policy]}" stroke-width="2"/>`,
      ...shown.map((point) => `<circle cx="${point.x}" cy="${point.y}" r="3" fill="${colours[policy]}"/>`),
      `<text x="${last.x}" y="${last.y - 8}" text-anchor="middle" fill="${colours[policy]}">${policy}</text>`,
    ].join("\n");
  });
  return [
    `<text x="${left}" y="20" font-weight="600" fill="#334155">${team} team: waiting saved by cost a day</text>`,
    ...shares,
    ...costs,
    ...curves,
  ].join("\n");
}
