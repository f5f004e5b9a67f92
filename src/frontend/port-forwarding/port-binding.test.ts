import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";

import { create } from "@bufbuild/protobuf";

import { WantedPortSchema } from "../../gen/sockerless/backend/v1/container_pb.ts";
import { bindPort, closePorts } from "./port-binding.ts";

test("a search for a free port leaves turns of the event loop to others", async () => {
  const wanted = create(WantedPortSchema, {
    hostIp: "0.0.0.0",
    hostPort: 1,
    hostPortEnd: 1000,
    protocol: "udp",
  });
  let isOver = false;
  const search = bindPort(wanted, () =>
    Promise.reject(Object.assign(new Error("taken"), { code: "EADDRINUSE" })),
  ).finally(() => {
    isOver = true;
  });
  let turns = 0;
  const others = (async () => {
    for (; !isOver; turns++) {
      await nextTurn();
    }
  })();
  await assert.rejects(search, /all ports are allocated/);
  await others;
  assert.ok(turns > 10, `${turns} turns`);
});

test("thousands of ports that are closed leave turns of the event loop to others", async () => {
  let [inTurn, most, closed] = [0, 0, 0];
  const close = (): void => {
    inTurn += 1;
    closed += 1;
    most = Math.max(most, inTurn);
  };
  const closing = closePorts(Array(1_000).fill({ address: "", port: 0, close }));
  while (closed < 1_000) {
    inTurn = 0;
    await nextTurn();
  }
  await closing;
  assert.ok(most <= 128, `${most} at a time`);
});

test("a name is no address of a published port", async () => {
  const wanted = create(WantedPortSchema, { hostIp: "localhost", hostPort: 80, protocol: "tcp" });
  await assert.rejects(
    bindPort(wanted, () => assert.fail("it is looked up")),
    /failed to bind host port: localhost is no IP address/,
  );
});
