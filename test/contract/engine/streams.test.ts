import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";

import { create } from "@bufbuild/protobuf";

import { isErrorKind, messageOf } from "../../../src/common/errors.ts";
import { ManualClock } from "../../../src/common/manual-clock.ts";
import { ExecEndedSchema, ExecStartedSchema } from "../../../src/gen/sockerless/agent/v1/agent_pb.ts";
import type { AttachEndpoint } from "../../../src/gen/sockerless/backend/v1/container_pb.ts";
import { AgentReach } from "../../../src/gen/sockerless/backend/v1/endpoint_pb.ts";
import { ExecPhase } from "../../../src/gen/sockerless/state/v1/state_pb.ts";
import { untilTrue } from "../../support/until.ts";
import { EngineBench, localAccess } from "../engine-bench.ts";

/** Outcome of a promise, for which time goes on. */
async function elapsing<Value>(clock: ManualClock, promise: Promise<Value>): Promise<Value> {
  let isSettled = false;
  const settle = (): void => {
    isSettled = true;
  };
  promise.then(settle, settle);
  await untilTrue(async () => {
    await clock.advance(500);
    return isSettled;
  });
  return await promise;
}

describe("attachments and execs", () => {
  const bench = EngineBench.ofEach();

  /** Reserves, and answers the endpoint as soon as it is told. */
  const attach = async (container: string) => {
    const leave = new AbortController();
    const stream = bench.containers
      .attachContainer(
        { container, access: localAccess, stdout: true, stream: true },
        { signal: leave.signal },
      )
      [Symbol.asyncIterator]();
    const first = await stream.next();
    assert.ok(first.value?.message.case === "accepted");
    const { running } = first.value.message.value;
    const endpoint = (async (): Promise<AttachEndpoint> => {
      const { value } = await stream.next();
      assert.equal(value?.message.case, "endpoint");
      assert.equal((await stream.next()).done, true);
      return value?.message.value as AttachEndpoint;
    })();
    endpoint.catch(() => undefined);
    return { leave, running, endpoint };
  };

  it("give the first byte to whoever attached before the start", async () => {
    for (let round = 0; round < 20; round++) {
      const id = await bench.createScript(`printf 'round ${round}'; exit ${round}`);
      const { running, endpoint } = await attach(id);
      assert.equal(running, false);
      const session = endpoint.then(({ endpoint: agent, attachId }) =>
        bench.session(agent, { openAttach: { attachId, stdout: true, stream: true } }),
      );
      await bench.containers.startContainer({ container: id });
      assert.deepEqual(await session, { output: `round ${round}`, exitCode: round });
    }
  });

  it("do not hold up a start when their client has left before it", async () => {
    const id = await bench.createScript("true");
    const { leave, endpoint } = await attach(id);
    leave.abort();
    await assert.rejects(endpoint);
    const { reservations } = bench.engine.context.live.of(id);
    while (reservations.ids().length > 0) {
      await new Promise((resolve) => setImmediate(resolve));
    }
    await bench.containers.startContainer({ container: id });
    assert.equal(await bench.wait(id), 0);
  });

  it("are told why when the start that they wait for fails", async () => {
    bench.machine.takenPorts.add(80);
    const id = await bench.createScript("true", {
      hostConfig: { portBindings: [{ containerPort: "80/tcp", hostPort: "80" }] },
    });
    const { endpoint } = await attach(id);
    await assert.rejects(bench.containers.startContainer({ container: id }));
    await assert.rejects(
      endpoint,
      (error) => isErrorKind(error, "conflict") && /port is already allocated/.test(messageOf(error)),
    );
  });

  it("are answered at once on a container that runs", async () => {
    const gate = join(bench.machine.directory, "gate");
    const id = await bench.runScript(`while test ! -e ${gate}; do sleep 0.01; done; echo late`);
    const { running, endpoint } = await attach(id);
    assert.equal(running, true);
    const { endpoint: agent, attachId } = await endpoint;
    assert.equal(attachId, "");
    const { output } = await bench.session(agent, { openAttach: { stdout: true, stream: true } }, () =>
      writeFileSync(gate, ""),
    );
    assert.equal(output, "late\n");
  });

  it("name the relay to a frontend that cannot dial the agent", async () => {
    const id = await bench.runScript("exec sleep 1000");
    const { endpoint } = await bench.containers.openLogs({
      container: id,
      access: { reach: AgentReach.RELAY },
    });
    assert.equal(endpoint?.address.case, "relay");
    assert.equal(endpoint?.containerId, id);
    assert.equal(bench.engine.agentTargetOf(id)?.address.kind, "unix");
    assert.equal(bench.engine.agentTargetOf("f".repeat(64)), undefined);
  });

  it("are told no megabytes of a container for each reader of its log or files", async () => {
    const text = "!".repeat(1024 ** 2);
    const describe = async (labels: Record<string, string>, user: string) => {
      const id = await bench.createScript("", {
        config: { labels, user },
        hostConfig: { logConfig: { type: "json-file", config: { labels: "team,text" } } },
      });
      const { details } = await bench.containers.openLogs({ container: id, access: localAccess });
      const archive = await bench.containers.openArchive({ container: id, access: localAccess });
      return [details, archive.user] as const;
    };
    assert.deepEqual(await describe({ team: "blue" }, "web"), [{ team: "blue" }, "web"]);
    const [details, user] = await describe({ team: "blue", text }, text);
    assert.deepEqual([details, user.length], [{}, 1024]);
  });

  const exec = async (container: string, ...cmd: string[]) => {
    const { id } = await bench.execs.createExec({ container, config: { cmd, attachStdout: true } });
    return id;
  };
  const open = async (execId: string) => {
    const started = await bench.execs.startExec({ execId, access: localAccess });
    return await bench.session(started.endpoint, {
      openExec: { execId, process: { args: started.config?.cmd ?? [] }, attachStdout: true },
    });
  };

  it("run once, and their exit code is in inspect the moment their stream ends", async () => {
    const container = await bench.runScript("exec sleep 1000");
    for (let code = 0; code < 10; code++) {
      const execId = await exec(container, "sh", "-c", `echo hello; exit ${code}`);
      assert.deepEqual(await open(execId), { output: "hello\n", exitCode: code });
      const inspected = await bench.execs.inspectExec({ execId });
      assert.deepEqual([inspected.running, inspected.exitCode], [false, code]);
      const again = await bench.execs.startExec({ execId });
      assert.deepEqual(
        [again.refusal, again.endpoint],
        [`exec command ${execId} has already run`, undefined],
      );
      await assert.rejects(bench.execs.startExec({ execId, detach: true }), (error) =>
        isErrorKind(error, "conflict"),
      );
    }
    assert.deepEqual(
      (await bench.eventNames({ container: [container] })).slice(-3),
      ["exec_create: sh -c echo hello; exit 9", "exec_start: sh -c echo hello; exit 9", "exec_die"].map(
        (action) => `container ${action}`,
      ),
    );
  });

  it("run as long as their agent says so, and have ended with 255 where nobody tells in 5 s", async () => {
    const clock = new ManualClock(Date.now());
    await using own = await EngineBench.start({ clock });
    const container = await own.runScript("exec sleep 1000");
    const agent = own.machine.agentOf(container);
    const make = async (attachStdout: boolean): Promise<string> => {
      const config = { cmd: ["true"], attachStdout };
      const { id: execId } = await own.execs.createExec({ container, config });
      await own.execs.startExec({ execId, access: localAccess });
      agent.tell({ case: "execStarted", value: create(ExecStartedSchema, { execId, pid: 1n }) });
      await untilTrue(() => own.state.execs.get(execId)?.phase === ExecPhase.RUNNING);
      return execId;
    };
    const inspect = async (execId: string): Promise<readonly unknown[]> => {
      const { running, exitCode } = await own.execs.inspectExec({ execId });
      return [running, exitCode];
    };
    const execId = await make(true);
    agent.failures.add("execInspect");
    assert.deepEqual(await inspect(await make(false)), [true, undefined], "it has no stream that could end");

    const lost = inspect(execId);
    assert.deepEqual(await elapsing(clock, lost), [false, 255]);

    const told = inspect(execId);
    agent.tell({ case: "execEnded", value: create(ExecEndedSchema, { execId, exit: { code: 3 } }) });
    assert.deepEqual(await elapsing(clock, told), [false, 3]);
  });

  it("cannot be made in a container that does not run, nor without a command", async () => {
    const id = await bench.createScript("true");
    await assert.rejects(
      exec(id, "true"),
      (error) => isErrorKind(error, "conflict") && messageOf(error) === `container ${id} is not running`,
    );
    await assert.rejects(exec(id), (error) => isErrorKind(error, "invalid"));
    await assert.rejects(
      bench.execs.inspectExec({ execId: "nope" }),
      (error) => isErrorKind(error, "not-found") && messageOf(error) === "No such exec instance: nope",
    );
  });

  it("have the container's environment under their own", async () => {
    const container = await bench.runScript("exec sleep 1000", { config: { env: ["A=1", "B=1"] } });
    const { id: execId } = await bench.execs.createExec({
      container,
      config: { cmd: ["env"], env: ["B=2", "A"], tty: true },
    });
    const { config } = await bench.execs.startExec({ execId, access: localAccess });
    const env = config?.env ?? [];
    assert.ok(env.includes("B=2") && env.includes("FROM_IMAGE=1") && env.includes("TERM=xterm"));
    assert.ok(env.includes(`HOSTNAME=${container.slice(0, 12)}`));
    assert.equal(
      env.some((entry) => entry.startsWith("A=")),
      false,
    );
  });

  it("end with 137 when the main process ends under them, never with 0", async () => {
    const container = await bench.runScript("exec sleep 1000");
    const execId = await exec(container, "sleep", "1000");
    const started = await bench.execs.startExec({ execId, access: localAccess });
    const session = bench
      .session(started.endpoint, { openExec: { execId, process: { args: ["sleep", "1000"] } } })
      .catch(() => undefined);
    await bench.containers.killContainer({ container });
    assert.equal((await bench.execs.awaitExec({ execId })).exitCode, 137);
    await session;
  });

  it("are awaited over a watch that is cut", async () => {
    const container = await bench.runScript("exec sleep 1000");
    const agent = bench.machine.agentOf(container);
    const execId = await exec(container, "true");
    const { endpoint } = await bench.execs.startExec({ execId, access: localAccess });
    const end = bench.execs.awaitExec({ execId });
    agent.cut();
    await bench.session(endpoint, { openExec: { execId, process: { args: ["sh", "-c", "exit 4"] } } });
    assert.equal((await end).exitCode, 4);
  });

  it("are gone with the run of their container", async () => {
    const container = await bench.runScript("exec sleep 1000");
    const execId = await exec(container, "true");
    const isGone = (error: unknown) =>
      isErrorKind(error, "not-found") && messageOf(error) === `No such exec instance: ${execId}`;
    await bench.containers.stopContainer({ container, timeoutSeconds: 0 });
    await assert.rejects(bench.execs.startExec({ execId, access: localAccess }), isGone);
    await assert.rejects(bench.execs.resizeExec({ execId, height: 1, width: 1 }), (error) =>
      isErrorKind(error, "conflict"),
    );
    await bench.containers.startContainer({ container });
    await assert.rejects(bench.execs.startExec({ execId, access: localAccess }), isGone);
  });

  it("resize the terminal of the main process and of execs", async () => {
    const container = await bench.runScript("exec sleep 1000");
    await bench.containers.resizeContainer({ container, height: 40, width: 120 });
    assert.deepEqual(bench.machine.agentOf(container).calls, ["resize main 40x120"]);
    const [resize] = await bench.pastEvents({ event: ["resize"] });
    assert.equal(resize?.attributes["width"], "120");
  });
});
