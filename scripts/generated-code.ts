/** The code that buf makes of proto/: committed, never edited, always current. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { type Outcome, run } from "./program.ts";

/** Where it is. */
const folders = ["src/gen", "agent/gen"] as const;

/** The description of proto/ that changes are compared with; `npm run proto:baseline` renews it. */
export const baseline = "proto/baseline.binpb";

/** Writes it anew. */
export function generate(): Promise<Outcome> {
  return run("buf", ["generate", "--clean"]);
}

/** Generates into a temporary folder and compares; the output is the difference. */
export async function compareGenerated(): Promise<Outcome> {
  const fresh = await mkdtemp(join(tmpdir(), "sockerless-generated-"));
  try {
    const generated = await run("buf", ["generate", "--output", fresh]);
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
