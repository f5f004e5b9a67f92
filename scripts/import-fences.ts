/**
 * Fences between folders: which may import which; and no files import one another in a circle. They stand here because a
 * linter's path rule sees only the written specifier (`../../x`), not the file that it resolves to. Also run alone:
 * `node scripts/run.mjs import-fences`.
 */
import { globSync, readFileSync } from "node:fs";
import { join, posix } from "node:path";

import { importsOf, readImportGraph } from "./import-graph.ts";
import { root } from "./program.ts";

/** Files below `folder` may import files below these, and those of `folder` itself. The first folder that fits counts. */
export interface Fence {
  readonly folder: string;
  /** Folders, or single files. */
  readonly mayImport: readonly string[];
}

const leaves = ["src/common", "src/gen"];

/** Rooms of the backends: what all of them, or all clouds, share. */
const rooms = (...names: readonly string[]): string[] => names.map((name) => `src/backends/${name}`);
const [engine, cloud] = ["src/backends/engine", "src/backends/cloud"];

/** The contracts and the meaning of records, on which drivers, images and the engine's decisions stand. */
const belowTheEngine = rooms("driver", "logging", "model", "security", "state");
/** All that drivers stand on. */
const belowDrivers = [
  ...belowTheEngine,
  ...rooms("concurrency", "images", "server"),
  "src/agent-client",
  ...leaves,
];

/** Folders in which the engine decides, by pure functions; it acts in the files beside them. */
const decisions = ["containers", "events", "execs", "networks", "volumes"].map(
  (subject) => `${engine}/${subject}/decisions`,
);

/** The fences of this repository. */
export const fences: readonly Fence[] = [
  { folder: "src/gen", mayImport: [] },
  { folder: "src/common", mayImport: ["src/gen"] },
  { folder: "src/agent-client", mayImport: ["src/common", "src/gen"] },
  ...decisions.map((folder) => ({ folder, mayImport: [...decisions, ...belowTheEngine, ...leaves] })),
  ...rooms("concurrency", "logging", "model", "security", "state").map((folder) => ({
    folder,
    mayImport: [...belowTheEngine, ...leaves],
  })),
  ...rooms("driver", "images").map((folder) => ({
    folder,
    mayImport: [...belowTheEngine, ...rooms("concurrency"), "src/agent-client", ...leaves],
  })),
  {
    folder: engine,
    mayImport: [...belowTheEngine, ...rooms("concurrency", "images"), "src/agent-client", ...leaves],
  },
  { folder: "src/backends/server", mayImport: [engine, ...belowDrivers] },
  { folder: `${cloud}/contract`, mayImport: belowDrivers },
  ...[cloud, ...rooms("local")].map((folder) => ({ folder, mayImport: belowDrivers })),
  ...rooms("ecs", "aca", "kubernetes").map((folder) => ({ folder, mayImport: [cloud, ...belowDrivers] })),
  { folder: "src/backends", mayImport: ["src/common"] },
  { folder: "src/frontend", mayImport: ["src/agent-client", "src/common", "src/gen"] },
  { folder: "src/cli", mayImport: ["src"] },
  { folder: "src", mayImport: [] },
  // The code that simulators share knows none of them.
  { folder: "test/simulators/common", mayImport: ["test/support"] },
  // A simulator that shared our code would share our errors; how tests run programs and wait is not of that code.
  { folder: "test/simulators", mayImport: ["test/support"] },
  { folder: "test", mayImport: ["src", "scripts"] },
];

/** Packages of one cloud, and the only folder whose code may use them. */
const ownPackages: readonly { readonly prefix: string; readonly folder: string }[] = [
  { prefix: "@aws-sdk/", folder: "src/backends/ecs" },
  { prefix: "@azure/", folder: "src/backends/aca" },
  { prefix: "@kubernetes/", folder: "src/backends/kubernetes" },
  { prefix: "level", folder: "src/backends" },
];

/** An import that a fence forbids. */
export interface Trespass {
  readonly file: string;
  /** The imported file, or the package. */
  readonly imported: string;
  readonly why: string;
}

/**
 * The forbidden imports of one file.
 *
 * @param file path from the checkout, with `/`
 * @param packages names of the packages that are installed for users too, not only for development
 */
export function trespassesOf(file: string, source: string, packages: ReadonlySet<string>): Trespass[] {
  const fence = fences.find((each) => isBelow(file, each.folder));
  if (fence === undefined) {
    return [];
  }
  const isTest = /\.test\.ts$/.test(file);
  const allowed = [fence.folder, ...fence.mayImport, ...(isTest ? ["test/support"] : [])];
  const found: Trespass[] = [];
  for (const specifier of importsOf(source)) {
    if (specifier.startsWith(".")) {
      const imported = posix.join(posix.dirname(file), specifier);
      if (!allowed.some((folder) => isBelow(imported, folder))) {
        found.push({ file, imported, why: `${fence.folder} may import only ${allowed.join(", ")}` });
      }
    } else if (!specifier.startsWith("node:") && file.startsWith("src/") && !isTest) {
      const name = packageName(specifier);
      const owner = ownPackages.find(({ prefix }) =>
        prefix.endsWith("/") ? name.startsWith(prefix) : name === prefix,
      );
      if (owner !== undefined && !isBelow(file, owner.folder)) {
        found.push({ file, imported: name, why: `only ${owner.folder} may use it` });
      } else if (!packages.has(name)) {
        found.push({ file, imported: name, why: "not among the dependencies of package.json" });
      }
    }
  }
  return found;
}

/** The forbidden imports of the checkout. */
export function findTrespasses(): Trespass[] {
  const { dependencies } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as {
    dependencies: Record<string, string>;
  };
  const packages = new Set(Object.keys(dependencies));
  return globSync(["src/**/*.ts", "test/**/*.ts"], { cwd: root })
    .sort()
    .flatMap((file) => trespassesOf(file, readFileSync(join(root, file), "utf8"), packages));
}

/**
 * The files that import one another in a circle, one circle of each knot: none of them can be read before the others.
 *
 * @param imports the imported files of each file
 */
export function findCircles(imports: ReadonlyMap<string, readonly string[]>): string[][] {
  const circles: string[][] = [];
  const path: string[] = [];
  const seen = new Set<string>();
  const visit = (file: string): void => {
    const start = path.indexOf(file);
    if (start >= 0) {
      circles.push([...path.slice(start), file]);
    }
    if (seen.has(file)) {
      return;
    }
    seen.add(file);
    path.push(file);
    for (const imported of imports.get(file) ?? []) {
      visit(imported);
    }
    path.pop();
  };
  for (const file of imports.keys()) {
    visit(file);
  }
  return circles;
}

/** Circles of the program's files, each as a line for people. */
function describeCircles(): string[] {
  const imports = [...readImportGraph(["src/**/*.ts"])].filter(([file]) => !/\.test\.ts$/.test(file));
  return findCircles(new Map(imports)).map((circle) => `a circle of imports: ${circle.join(" → ")}`);
}

/** All that is wrong with the imports of the checkout, a line each. */
export function findComplaints(): string[] {
  return [...findTrespasses().map(describeTrespass), ...describeCircles()];
}

function describeTrespass({ file, imported, why }: Trespass): string {
  return `${file} imports ${imported}: ${why}`;
}

function isBelow(path: string, folder: string): boolean {
  return path === folder || path.startsWith(`${folder}/`);
}

function packageName(specifier: string): string {
  return specifier.split("/", specifier.startsWith("@") ? 2 : 1).join("/");
}

if (import.meta.main) {
  const complaints = findComplaints();
  for (const complaint of complaints) {
    console.error(complaint);
  }
  process.exitCode = complaints.length === 0 ? 0 : 1;
}
