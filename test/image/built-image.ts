/** The container image of sockerless, built from this checkout. */
import assert from "node:assert/strict";
import { join } from "node:path";

import { version } from "../../src/common/version.ts";
import { runCommand } from "../support/command.ts";
import { checkout } from "../support/daemon.ts";

/** Its name. */
export const image = `sockerless:${version}`;

/** The program in it, for commands that do not use its entry point. */
export const programInImage = "/opt/sockerless/dist/bundle/cli/sockerless.js";

/** Builds it. @returns the archive, in this directory */
export async function buildImage(directory: string): Promise<string> {
  const archive = join(directory, "image.tar");
  const { code, text, errorText } = await runCommand(
    process.execPath,
    ["--import", "tsx", "scripts/image.ts", "--output", archive, "--gzip-level", "1"],
    { cwd: checkout },
  );
  assert.equal(code, 0, errorText);
  assert.match(text, /^sockerless:\S+@sha256:[0-9a-f]{64}$/);
  return archive;
}
