/**
 * Takes the models of the simulated operations out of botocore: `node test/simulators/aws/models/extract.ts [VERSION]`.
 * Needs Python's pip, which fetches botocore's wheel. Documentation is left out; all constraints are kept.
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";

import { simulatedOperations } from "./operations.ts";

/** Members of a model that nothing here reads. */
const leftOut = new Set([
  "documentation",
  "documentationUrl",
  "deprecatedMessage",
  "deprecatedSince",
  "synonym",
]);

interface Model {
  readonly metadata: Record<string, unknown>;
  readonly operations: Record<string, unknown>;
  readonly shapes: Record<string, unknown>;
}

function readModel(data: string, service: string): Model {
  const version = readdirSync(join(data, service)).sort().at(-1);
  const packed = readFileSync(join(data, service, String(version), "service-2.json.gz"));
  const withoutProse = (key: string, value: unknown): unknown => (leftOut.has(key) ? undefined : value);
  return JSON.parse(JSON.stringify(JSON.parse(gunzipSync(packed).toString()), withoutProse)) as Model;
}

/** The named operations and every shape that they lead to. */
function reduce(model: Model, names: readonly string[]): Model {
  const operations: Record<string, unknown> = {};
  const shapes: Record<string, unknown> = {};
  const follow = (value: unknown): void => {
    if (typeof value !== "object" || value === null) {
      return;
    }
    for (const [key, inner] of Object.entries(value)) {
      if (key === "shape" && typeof inner === "string" && shapes[inner] === undefined) {
        shapes[inner] = model.shapes[inner];
        follow(shapes[inner]);
      } else {
        follow(inner);
      }
    }
  };
  for (const name of names) {
    const operation = model.operations[name];
    if (operation === undefined) {
      throw new Error(`there is no operation ${name}`);
    }
    operations[name] = operation;
    follow(operation);
  }
  return { metadata: model.metadata, operations, shapes };
}

const fixtures = join(import.meta.dirname, "fixtures");
const scratch = mkdtempSync(join(tmpdir(), "botocore-"));
try {
  const [version] = process.argv.slice(2);
  const wanted = version === undefined ? "botocore" : `botocore==${version}`;
  execFileSync("python3", ["-m", "pip", "download", "--quiet", "--no-deps", "--dest", scratch, wanted]);
  const wheel = readdirSync(scratch).find((name) => name.endsWith(".whl")) ?? "";
  execFileSync("python3", ["-m", "zipfile", "-e", join(scratch, wheel), join(scratch, "unpacked")]);
  for (const [service, names] of Object.entries(simulatedOperations)) {
    const model = reduce(readModel(join(scratch, "unpacked/botocore/data"), service), names);
    writeFileSync(join(fixtures, `${service}.json`), `${JSON.stringify(model)}\n`);
  }
  const source = `botocore ${wheel.split("-")[1]}, https://github.com/boto/botocore, Apache License 2.0\n`;
  writeFileSync(join(fixtures, "SOURCE"), source);
} finally {
  rmSync(scratch, { recursive: true });
}
