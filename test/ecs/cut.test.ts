/**
 * A network that is cut while an exec streams: a short cut costs no byte, a long one is told and never taken for an end.
 * Those of 30 s and of a minute with SOCKERLESS_SOAK=1. And what is cut off can be stopped.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { before, describe, it } from "node:test";
import { setTimeout as delay } from "node:timers/promises";

import { duringTests } from "../support/during-tests.ts";
import { EcsDaemon } from "../support/ecs-daemon.ts";
import { inSoak, isSoak } from "../support/soak.ts";
import { until } from "../support/until.ts";

const lines = 200;
/** Well below the 30 s after which a silent peer counts as gone, as long as these, and well above. */
const shortCutMs = 3_000;
/** Longer than a call to an agent may take. */
const patientCutMs = 8_000;
const middleCutMs = 30_000;
const longCutMs = 60_000;

describe("an exec in a task whose network is cut", () => {
  const under = duringTests(() => EcsDaemon.start({ ecs: { drain_timeout: "1s" } }));
  let task: string;

  before(async () => {
    task = await started("--name", "far", "busybox", "sleep", "1000");
  });

  /** Runs a container. @returns its task */
  const started = async (...args: string[]): Promise<string> => {
    const id = await under.daemon.ok("run", "--detach", ...args);
    const found = under.aws.ecs.tasks.find(({ state }) => JSON.stringify(state.overrides).includes(id));
    return found?.state.taskArn ?? "";
  };

  /** Starts an exec that counts, cuts the network once it has begun to tell, and answers what came. */
  const countThroughCut = async (
    cutMs: number,
  ): Promise<{ readonly code: number; readonly output: string }> => {
    const script = `i=0; while [ $i -lt ${lines} ]; do echo line $i; i=$((i+1)); usleep 10000; done`;
    const client = spawn("docker", ["exec", "far", "sh", "-c", script], {
      env: under.daemon.clientEnv,
      stdio: ["ignore", "pipe", "ignore"],
    });
    let output = "";
    client.stdout.on("data", (chunk) => {
      output += String(chunk);
    });
    const closed = once(client, "close") as Promise<[number]>;
    await until(() => (output.includes("line 3\n") ? true : undefined));
    await under.aws.ecs.cutNetwork(task);
    await delay(cutMs);
    await under.aws.ecs.restoreNetwork(task);
    const [code] = await closed;
    return { code, output };
  };
  const whole = Array.from({ length: lines }, (_, n) => `line ${n}\n`).join("");

  it("loses no byte when the cut is short", async () => {
    assert.deepEqual(await countThroughCut(shortCutMs), { code: 0, output: whole });
  });

  it("goes on or ends with an error, and loses no byte of what came, when the cut is 30 s", {
    skip: !isSoak && "takes half a minute",
  }, async () => {
    const { code, output } = await countThroughCut(middleCutMs);
    assert.ok(code === 0 ? output === whole : whole.startsWith(output), `${code}: ${output}`);
  });

  it("ends with an error, and what came before it, when the cut is long", {
    skip: !isSoak && "takes a minute",
  }, async () => {
    const { code, output } = await countThroughCut(longCutMs);
    assert.notEqual(code, 0);
    assert.ok(whole.startsWith(output), "what came is true as far as it goes");
  });

  it("is stopped and killed past its agent, and its exit code is its own", async () => {
    const script = "trap 'exit 7' TERM; while :; do usleep 100000; done";
    for (const name of ["stopped", "killed"]) {
      await under.aws.ecs.cutNetwork(await started("--name", name, "busybox", "sh", "-c", script));
    }
    await Promise.all([under.daemon.ok("stop", "stopped"), under.daemon.ok("kill", "killed")]);
    const codes = await under.daemon.ok("inspect", "--format", "{{.State.ExitCode}}", "stopped", "killed");
    assert.equal(codes, "7\n7"); // ECS has no other signal.
    assert.equal(under.aws.calls.count("ecs.StopTask"), 2);
  });

  it("is told a stop once when the cut is over, and has its time", inSoak, async () => {
    const stops = under.aws.calls.count("ecs.StopTask");
    const script = "trap 'echo told' TERM; sleep 1000 & wait; sleep 1; kill $!; exit 7";
    const cut = await started("--name", "patient", "busybox", "sh", "-c", script);
    await under.aws.ecs.cutNetwork(cut);
    const stopped = under.daemon.ok("stop", "--time", "600", "patient");
    await delay(patientCutMs);
    await under.aws.ecs.restoreNetwork(cut);
    await stopped;
    const code = await under.daemon.ok("inspect", "--format", "{{.State.ExitCode}}", "patient");
    assert.deepEqual([code, await under.daemon.ok("logs", "patient")], ["7", "told"]);
    assert.equal(under.aws.calls.count("ecs.StopTask"), stops);
  });
});
