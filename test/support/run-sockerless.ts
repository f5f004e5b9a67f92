/** The program's commands, as users run them. */
import assert from "node:assert/strict";
import { join } from "node:path";

import { runCommand } from "./command.ts";
import { checkout } from "./daemon.ts";

/** Runs a command. @returns what it prints @throws AssertionError: it fails */
export async function runSockerless(...args: string[]): Promise<string> {
  const { code, text, errorText } = await runCommand(join(checkout, "bin/sockerless"), args);
  assert.equal(code, 0, errorText);
  return text;
}
