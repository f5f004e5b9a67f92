/** The code that buf makes of proto/: committed, never edited, always current. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { type Outcome, run } from "./program.ts";

/** Folders of the generated code. */
const folders = ["src/gen", "proto/gen"] as const;

/** The description of proto/ that changes are compared with; `npm run proto:baseline` renews it. */
export const baseline = "proto/baseline.binpb";

/** Templates, one for each language. */
const templates = ["buf.gen.yaml", "buf.gen.go.yaml"] as const;

/** Writes the code anew. */
export function generate(): Promise<Outcome> {
  return runEach(["--clean"]);
}

async function runEach(flags: readonly string[]): Promise<Outcome> {
  for (const template of templates) {
    const generated = await run("buf", ["generate", "--template", template, ...flags]);
    if (generated.code !== 0) {
      return generated;
    }
  }
  return { code: 0, output: "" };
}

/** Generates into a temporary folder and compares; the output is the difference. */
export async function compareGenerated(): Promise<Outcome> {
  const fresh = await mkdtemp(join(tmpdir(), "sockerless-generated-"));
  try {
    const generated = await runEach(["--output", fresh]);
    if (generated.code !== 0) {
      return generated;
    }
    for (const folder of folders) {
      const difference = await run("diff", ["-ru", folder, join(fresh, folder)]);
      if (difference.code !== 0) {
        return { code: 1, output: `${difference.output}\nnot current: npm run generate\n` };
      }
    }
    return { code: 0, output: "" };
  } finally {
    await rm(fresh, { recursive: true });
  }
}

/** Takes proto/ as it is for the new baseline. */
export function renewBaseline(): Promise<Outcome> {
  return run("buf", ["build", "--output", baseline]);
}
