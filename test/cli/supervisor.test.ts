import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";

import type { Service } from "../../src/cli/services.ts";
import { RestartPauses } from "../../src/common/child-processes.ts";
import { supervise } from "../../src/cli/supervisor.ts";
import { createLogger } from "../../src/common/logger.ts";
import { isAlive } from "../support/processes.ts";
import { until } from "../support/until.ts";
import { localConfig, recordingService } from "./supervised-services.ts";
import { scratchDirectory } from "../support/scratch.ts";

const logger = createLogger({ level: "silent", process: "supervisor" });

const nothing = (): void => {};
const silent = { debug: nothing, info: nothing, warn: nothing, error: nothing };

interface RecordedEvent {
  readonly service: string;
  readonly event: string;
  readonly pid: number;
}

function recorded(stateDir: string): RecordedEvent[] {
  const file = join(stateDir, "events");
  const lines = existsSync(file) ? readFileSync(file, "utf8").trimEnd().split("\n") : [];
  return lines.map((line) => {
    const [service = "", event = "", pid] = line.split(" ");
    return { service, event, pid: Number(pid) };
  });
}

function told(stateDir: string): string[] {
  return recorded(stateDir).map(({ service, event }) => `${service} ${event}`);
}

function start(services: Service[], stateDir: string, signal = new AbortController().signal) {
  return supervise(services, localConfig(stateDir), logger, signal);
}

describe("the supervisor", () => {
  it("starts services in order and ends them in the reverse order", async () => {
    const stateDir = scratchDirectory();
    const services = [recordingService("backend", "startWell"), recordingService("frontend", "startWell")];
    const supervised = await start(services, stateDir);
    assert.deepEqual(told(stateDir), ["backend started", "frontend started"]);
    assert.deepEqual(supervised.addresses.get("frontend"), [`unix://${stateDir}/frontend.sock`]);
    await supervised.stop();
    assert.deepEqual(told(stateDir).slice(2), ["frontend closed", "backend closed"]);
    assert.ok(recorded(stateDir).every(({ pid }) => !isAlive(pid)));
  });

  it("starts a crashed service again and leaves the others alone", async () => {
    const stateDir = scratchDirectory();
    const services = [
      recordingService("backend", "startAndCrashOnce"),
      recordingService("frontend", "startWell"),
    ];
    const supervised = await start(services, stateDir);
    await until(() => told(stateDir).filter((line) => line === "backend started").length === 2 || undefined);
    await supervised.stop();
    assert.equal(told(stateDir).filter((line) => line === "frontend started").length, 1);
  });

  it("starts a crashed service as soon as the machine can start it", async () => {
    const stateDir = scratchDirectory();
    const failures: object[] = [];
    const noting = { ...silent, error: (values: object) => void failures.push(values) };
    const { execPath } = process;
    const services = [recordingService("backend", "startWell")];
    const supervised = await supervise(services, localConfig(stateDir), noting, new AbortController().signal);
    try {
      process.execPath = join(stateDir, "missing");
      process.kill(recorded(stateDir)[0]?.pid ?? 0, "SIGKILL");
      await until(() => failures[1]); // The first process has ended, and another could not be started.
      process.execPath = execPath;
      await until(() => told(stateDir)[1]);
    } finally {
      process.execPath = execPath;
      await supervised.stop();
    }
    assert.deepEqual(told(stateDir), ["backend started", "backend started", "backend closed"]);
  });

  it("gives up when a service cannot start, and ends those before it", async () => {
    const stateDir = scratchDirectory();
    const services = [recordingService("backend", "startWell"), recordingService("frontend", "startInVain")];
    await assert.rejects(start(services, stateDir), /the frontend did not start/);
    assert.deepEqual(told(stateDir), ["backend started", "frontend refused", "backend closed"]);
  });

  it("ends what it has started when it is asked to end during the start", async () => {
    const stateDir = scratchDirectory();
    const ending = new AbortController();
    const starting = start([recordingService("backend", "startWell")], stateDir, ending.signal);
    ending.abort();
    await assert.rejects(starting);
    assert.ok(recorded(stateDir).every(({ pid }) => !isAlive(pid)));
  });

  it("ends a service whose start takes long when it is asked to end", async () => {
    const stateDir = scratchDirectory();
    const ending = new AbortController();
    const starting = start([recordingService("backend", "startUntilEnded")], stateDir, ending.signal);
    const ended = assert.rejects(starting);
    await until(() => told(stateDir).includes("backend starting") || undefined);
    ending.abort();
    await ended;
    assert.deepEqual(told(stateDir), ["backend starting", "backend abandoned"]);
    assert.ok(recorded(stateDir).every(({ pid }) => !isAlive(pid)));
  });

  it("leaves no service behind when it is killed", async () => {
    const stateDir = scratchDirectory();
    const program = fileURLToPath(new URL("./supervising-program.js", import.meta.url));
    const supervisor = spawn(process.execPath, [program, stateDir, "startWell"], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    await once(supervisor.stdout, "data");
    const [service] = recorded(stateDir);
    assert.ok(service !== undefined && isAlive(service.pid));
    supervisor.kill("SIGKILL");
    await until(() => !isAlive(service.pid) || undefined);
    assert.deepEqual(told(stateDir), ["backend started", "backend closed"]);
  });

  it("has services say in the log's form why they do not end in order", async () => {
    const program = fileURLToPath(new URL("./supervising-program.js", import.meta.url));
    const supervisor = spawn(process.execPath, [program, scratchDirectory(), "startToBeStuck"], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    await once(supervisor.stdout, "data");
    supervisor.kill("SIGKILL");
    const printed = (await text(supervisor.stderr)).trimEnd().split("\n");
    const lines = printed.map((line) => JSON.parse(line) as Record<string, unknown>);
    assert.deepEqual(
      lines.map(({ process: name, level, msg }) => [name, level, msg]),
      [
        ["backend", "error", "could not be closed"],
        ["backend", "warn", "something holds it open, ending anyway"],
      ],
    );
  });

  it("waits longer after each crash, up to ten seconds", () => {
    const pauses = new RestartPauses();
    const all = Array.from({ length: 50 }, () => pauses.crashed());
    assert.deepEqual(
      [1, 2, 3, 7, 8, 50].map((crash) => all[crash - 1]),
      [100, 200, 400, 6400, 10_000, 10_000],
    );
  });
});
