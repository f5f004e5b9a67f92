/** The programs that the supervisor starts. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { test } from "node:test";
import { promisify } from "node:util";

import { frontendService } from "./services.ts";

const run = promisify(execFile);

test("a frontend reads no authorities of the web, whichever the environment asks for", async () => {
  const { switches } = frontendService();
  const script = "process.stdout.write(String(require('node:tls').getCACertificates().length))";
  for (const asked of [
    {},
    { NODE_OPTIONS: "--use-bundled-ca" },
    { NODE_OPTIONS: "--use-system-ca" },
    { NODE_OPTIONS: "--use-openssl-ca" },
    { NODE_USE_SYSTEM_CA: "1" },
  ]) {
    const env = { ...process.env, NODE_EXTRA_CA_CERTS: "", ...asked };
    const { stdout } = await run(process.execPath, [...switches, "--eval", script], { env });
    assert.equal(stdout, "0", JSON.stringify(asked));
  }
});
