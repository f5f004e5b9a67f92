/** The host process, of which a script takes the place, against the library's server. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { readFile, rename, writeFile } from "node:fs/promises";
import { createServer } from "node:http2";
import { join } from "node:path";
import { test } from "node:test";

import { connectNodeAdapter } from "@connectrpc/connect-node";
import { pino } from "pino";

import { scratchDirectory } from "../../../test/support/scratch.ts";
import { until } from "../../../test/support/until.ts";
import { HostService } from "../../gen/sockerless/host/v1/host_pb.ts";
import { HostProcess } from "./host-process.ts";

test("a host process that cannot be started again at once is started as soon as it can", async (t) => {
  const directory = scratchDirectory();
  const agentPath = join(directory, "agent");
  const pidsPath = join(directory, "pids");
  await writeFile(agentPath, `#!/bin/sh\necho $$ >> ${pidsPath}\nexec cat\n`, { mode: 0o755 });
  const pids = async (): Promise<number[]> =>
    (await readFile(pidsPath, "utf8").catch(() => "")).split("\n").filter(Boolean).map(Number);
  const server = createServer(
    connectNodeAdapter({ routes: (router) => router.service(HostService, { hello: () => ({}) }) }),
  );
  server.listen(join(directory, "host.sock"));
  await once(server, "listening");
  const failures: string[] = [];
  const logger = pino({ level: "error" }, { write: (line) => void failures.push(line) });
  const { host } = await HostProcess.start({
    agentPath,
    stateDir: directory,
    runDir: directory,
    runtime: undefined,
    blockVolumeSize: 0,
    logger,
  });
  t.after(async () => {
    await host.close();
    server.close();
  });

  const first = await until(async () => (await pids())[0]);
  await rename(agentPath, `${agentPath}.away`);
  process.kill(first, "SIGKILL");
  await until(() => failures.find((line) => line.includes("cannot be started")));
  await rename(`${agentPath}.away`, agentPath);
  const second = await until(async () => (await pids())[1]);
  assert.notEqual(second, first);
});
