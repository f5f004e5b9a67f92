import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";

import { isErrorKind, messageOf } from "../../../src/common/errors.ts";
import { ExitStatusSchema } from "../../../src/gen/sockerless/agent/v1/agent_pb.ts";
import { until } from "../../support/until.ts";
import { EngineBench } from "../engine-bench.ts";

describe("events", () => {
  const bench = EngineBench.ofEach();

  it("come in Docker's order with Docker's attributes", async () => {
    const id = await bench.runScript("exec sleep 1000", {
      name: "watched",
      config: { labels: { team: "a" } },
      hostConfig: { binds: ["data:/data"] },
    });
    await bench.containers.stopContainer({ container: id });
    await bench.containers.removeContainer({ container: id });
    assert.deepEqual(await bench.eventNames(), [
      "volume create",
      "container create",
      "network connect",
      "volume mount",
      "container start",
      "container kill",
      "network disconnect",
      "volume unmount",
      "container die",
      "container stop",
      "container destroy",
    ]);
    const [kill, die] = await bench.pastEvents({ event: ["kill", "die"] });
    assert.deepEqual(kill?.attributes, {
      image: "shell",
      name: "watched",
      signal: "15",
      team: "a",
      vendor: "test",
    });
    assert.equal(die?.attributes["exitCode"], "143");
    assert.match(die?.attributes["execDuration"] ?? "", /^\d+$/);
    const [mount] = await bench.pastEvents({ volume: ["data"], event: ["mount"] });
    assert.deepEqual(mount?.attributes, {
      container: id,
      destination: "/data",
      driver: "local",
      propagation: "",
      "read/write": "true",
    });
  });

  it("are not dated by an agent that is wrong about the time", async () => {
    const id = await bench.runScript("exec sleep 1000");
    const nextYear = timestampFromMs(Date.now() + 365 * 24 * 3_600_000);
    bench.machine.agentOf(id).tell({
      case: "exited",
      value: create(ExitStatusSchema, { code: 3, finishedAt: nextYear }),
    });
    const [die] = await until(async () => {
      const found = await bench.pastEvents({ event: ["die"] });
      return found.length > 0 ? found : undefined;
    });
    assert.equal(die?.attributes["exitCode"], "3");
    assert.ok((die?.timeUnixNs ?? 0n) < bench.engine.context.clock.nowNs());
  });

  it("are told again after the backend was restarted, and none twice to who follows", async () => {
    const id = await bench.createScript("true");
    await bench.stopBackend();
    await bench.startBackend();
    const seen: string[] = [];
    const following = new AbortController();
    const stream = bench.events.subscribeEvents({ sinceUnixNs: 0n }, { signal: following.signal });
    const done = (async () => {
      for await (const { message } of stream) {
        if (message.case === "event" && message.value.type === "container") {
          seen.push(message.value.action);
          if (message.value.action === "destroy") {
            following.abort();
          }
        }
      }
    })().catch(() => undefined);
    await bench.containers.startContainer({ container: id });
    await bench.wait(id);
    await bench.containers.removeContainer({ container: id });
    await done;
    assert.deepEqual(seen, ["create", "start", "die", "destroy"]);
  });

  it("tell the phases of starts to whoever names them, and follows", async () => {
    const follow = (event: readonly string[], last: string) => {
      const seen: string[] = [];
      const following = new AbortController();
      const filters = event.length === 0 ? {} : { event: { values: [...event] } };
      const request = { sinceUnixNs: 0n, filters };
      const stream = bench.events.subscribeEvents(request, { signal: following.signal });
      const done = (async () => {
        for await (const { message } of stream) {
          if (message.case === "event" && message.value.type === "container") {
            seen.push(message.value.action);
            if (message.value.action === last) {
              following.abort();
            }
          }
        }
      })().catch(() => undefined);
      return { seen, done };
    };
    const all = follow([], "destroy");
    const phases = follow(["start_phase", "destroy"], "destroy");
    await until(() => bench.engine.context.state.events.listeners === 2 || undefined);
    const id = await bench.runScript("true");
    await bench.wait(id);
    await bench.containers.removeContainer({ container: id });
    await Promise.all([all.done, phases.done]);
    assert.deepEqual(all.seen, ["create", "start", "die", "destroy"]);
    assert.deepEqual(phases.seen, ["start_phase: launch", "destroy"]);
    assert.deepEqual(await bench.pastEvents({ event: ["start_phase"] }), [], "none is kept");
  });

  it("are filtered by type, action, container, image and label", async () => {
    const a = await bench.createScript("true", { name: "a1", config: { labels: { tier: "x" } } });
    await bench.createScript("true", { name: "b1" });
    const about = async (filters: Record<string, string[]>) =>
      (await bench.pastEvents(filters)).map((event) => event.attributes["name"]);
    assert.deepEqual(await about({ container: [a] }), ["a1"]);
    assert.deepEqual(await about({ container: ["b1"] }), ["b1"]);
    assert.deepEqual(await about({ label: ["tier=x"] }), ["a1"]);
    assert.deepEqual(await about({ image: ["shell"], event: ["create"] }), ["a1", "b1"]);
    assert.deepEqual(await about({ type: ["network"] }), []);
    await assert.rejects(
      bench.pastEvents({ colour: ["red"] }),
      (error) => isErrorKind(error, "invalid") && messageOf(error) === "invalid filter 'colour'",
    );
  });

  it("are all past ones up to `until` where no beginning is named", async () => {
    await bench.createScript("true", { name: "c1" });
    const untilUnixNs = bench.engine.context.clock.nowNs(); // The wall clock in milliseconds may lag behind it.
    await bench.createScript("true", { name: "c2" });
    const seen: (string | undefined)[] = [];
    for await (const { message } of bench.events.subscribeEvents({ untilUnixNs })) {
      if (message.case === "event" && message.value.action === "create") {
        seen.push(message.value.attributes["name"]);
      }
    }
    assert.ok(seen.includes("c1") && !seen.includes("c2"), seen.join(" "));
  });

  it("end when `until` has come, even if nothing happens", async () => {
    let last: string | undefined;
    const untilUnixNs = BigInt(Date.now() + 50) * 1_000_000n;
    for await (const { message } of bench.events.subscribeEvents({ untilUnixNs })) {
      last = message.case;
    }
    assert.equal(last, "end");
  });
});
