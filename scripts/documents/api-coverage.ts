/** docs/api-coverage.md, from the route table of the frontend. */
import { backendNames } from "../../src/common/config/schema.ts";
import { maximumApiVersion, minimumApiVersion } from "../../src/frontend/api-version.ts";
import { routes } from "../../src/frontend/route-table.ts";
import type { Route } from "../../src/frontend/router.ts";

export const file = "docs/api-coverage.md";

const introduction = `# API coverage

Generated from the route table in \`src/frontend\` by \`npm run generate\`.

The Docker Engine API ${maximumApiVersion} is spoken; clients of ${minimumApiVersion} and later are served.

- ✓ answered
- – refused: with 501 and a message that names the feature and the backend, unless the notes say otherwise
`;

/** The first part of a path, and what its endpoints are called here. */
const sections: readonly (readonly [title: string, prefixes: readonly string[]])[] = [
  ["System", ["_ping", "version", "info", "auth", "system", "events", "{path}"]],
  ["Containers", ["containers", "commit"]],
  ["Exec", ["exec"]],
  ["Images", ["images", "distribution"]],
  ["Networks", ["networks"]],
  ["Volumes", ["volumes"]],
  ["Build", ["build", "session", "grpc"]],
  ["Plugins", ["plugins"]],
  ["Swarm", ["swarm", "services", "nodes", "tasks", "secrets", "configs"]],
];

/** The document. */
export function render(): string {
  const known = new Set(sections.flatMap(([, prefixes]) => prefixes));
  const forgotten = routes.filter((route) => !known.has(prefixOf(route)));
  if (forgotten.length > 0) {
    throw new Error(`no section for ${forgotten.map(({ path }) => path).join(", ")}`);
  }
  return [introduction, ...sections.map(section)].join("\n");
}

function section([title, prefixes]: (typeof sections)[number]): string {
  const rows = routes.filter((route) => prefixes.includes(prefixOf(route))).map(row);
  const header = ["Method", "Path", ...backendNames.map((name) => `\`${name}\``), "Notes"];
  return `## ${title}\n\n${[header, header.map(() => "---"), ...rows].map(tableRow).join("\n")}\n`;
}

function row(route: Route): string[] {
  const cells = backendNames.map(() => (route.answeredBy === "nobody" ? "–" : "✓"));
  return [route.method, `\`${route.path}\``, ...cells, notes(route)];
}

function notes(route: Route): string {
  const versions =
    route.since === undefined && route.until === undefined
      ? undefined
      : `API ${route.since ?? minimumApiVersion}–${route.until ?? maximumApiVersion}.`;
  const frontend = route.answeredBy === "frontend" ? "By the frontend itself." : undefined;
  return [frontend, versions, route.note].filter((note) => note !== undefined).join(" ");
}

function prefixOf(route: Route): string {
  return route.path.split("/")[1] ?? "";
}

function tableRow(cells: readonly string[]): string {
  return `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
}
