import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeEach, describe, it, type TestContext } from "node:test";

import { create } from "@bufbuild/protobuf";

import { openTestGeneration } from "../../../test/support/generation.ts";
import { ContainerStateSchema } from "../../gen/sockerless/backend/v1/container_pb.ts";
import { InspectExecResponseSchema } from "../../gen/sockerless/backend/v1/exec_pb.ts";
import { HeldAnswers, holdAnswers } from "./held-answers.ts";

const sizeOf = ({ length }: string): number => length;

describe("answers that a frontend holds", () => {
  let connection: number | undefined;
  beforeEach(() => {
    connection = 1;
  });

  async function setUp(t: TestContext) {
    const directory = mkdtempSync(join(tmpdir(), "skl-held-"));
    t.after(() => rmSync(directory, { recursive: true, force: true }));
    const address = `unix://${directory}/b.sock`;
    const generation = await openTestGeneration(t, address);
    const held = new HeldAnswers({ address, connection: () => connection, sizeOf });
    t.after(() => held.close());
    return { held, generation, address };
  }

  it("are given until something has changed", async (t) => {
    const { held, generation } = await setUp(t);
    assert.equal(held.get("one"), undefined);
    held.hold("one", generation.value, "1");
    held.hold("two", generation.value, "2");
    assert.deepEqual([held.get("one"), held.get("two"), held.get("three")], ["1", "2", undefined]);
    generation.advance();
    assert.deepEqual([held.get("one"), held.get("two")], [undefined, undefined]);
    held.hold("one", generation.value, "new");
    assert.deepEqual([held.get("one"), held.get("two")], ["new", undefined]);
  });

  it("are none where the backend says so, or has changed since it answered", async (t) => {
    const { held, generation } = await setUp(t);
    held.hold("one", 0n, "1");
    const old = generation.value;
    generation.advance();
    held.hold("two", old, "2");
    held.hold("three", 77n, "another backend's");
    assert.deepEqual(
      ["one", "two", "three"].map((each) => held.get(each)),
      [undefined, undefined, undefined],
    );
  });

  it("of execs that have ended outlive the progress of others", async (t) => {
    const { generation, address } = await setUp(t);
    const { execs, inspects } = holdAnswers({ address, connection: () => connection });
    t.after(() => {
      execs.close();
      inspects.close();
    });
    const exec = create(InspectExecResponseSchema, { id: "e", exitCode: 3 });
    inspects.hold("c", generation.value, "1");
    execs.hold("e", generation.allButExecs, exec);
    generation.advance(true);
    assert.deepEqual([inspects.get("c"), execs.get("e")], [undefined, exec]);
    generation.advance();
    assert.equal(execs.get("e"), undefined);
    execs.hold("e", 0n, exec);
    assert.equal(execs.get("e"), undefined);
  });

  it("go with the connection to the backend", async (t) => {
    const { held, generation } = await setUp(t);
    for (const next of [undefined, 2]) {
      connection = 1;
      held.hold("one", generation.value, "1");
      assert.equal(held.get("one"), "1");
      connection = next;
      assert.equal(held.get("one"), undefined);
    }
  });

  it("go with the backend, and come back with the next one", async (t) => {
    const { held, generation, address } = await setUp(t);
    held.hold("one", generation.value, "1");
    generation.close();
    assert.equal(held.get("one"), undefined);
    held.hold("one", 5n, "1");
    assert.equal(held.get("one"), undefined);
    const next = await openTestGeneration(t, address);
    held.hold("one", next.value, "2");
    assert.equal(held.get("one"), "2");
  });

  it("have a bound together", async (t) => {
    const { held, generation } = await setUp(t);
    const half = "x".repeat(2.5 * 1024 ** 2);
    held.hold("first", generation.value, half);
    held.hold("second", generation.value, half);
    assert.deepEqual([held.get("first"), held.get("second")], [undefined, half]);
    held.hold("third", generation.value, half + half);
    assert.deepEqual([held.get("second"), held.get("third")], [half, undefined]);
  });

  it("count with their containers' errors, which clients can make long", async (t) => {
    const { generation, address } = await setUp(t);
    const { lists } = holdAnswers({ address, connection: () => connection });
    t.after(() => lists.close());
    const listed = (error: string) => [{ text: "{", state: create(ContainerStateSchema, { error }) }];
    lists.hold("long", generation.value, listed("x".repeat(5 * 1024 ** 2)));
    lists.hold("short", generation.value, listed("x"));
    assert.deepEqual([lists.get("long"), lists.get("short")?.length], [undefined, 1]);
  });

  it("count once, however often a question was asked at the same time", async (t) => {
    const { held, generation } = await setUp(t);
    held.hold("small", generation.value, "1");
    for (let count = 0; count < 2; count++) {
      held.hold("large", generation.value, "x".repeat(2.5 * 1024 ** 2));
    }
    assert.equal(held.get("small"), "1");
  });

  it("are none of a backend on TCP", () => {
    const held = new HeldAnswers({ address: "https://127.0.0.1:2", connection: () => 1, sizeOf });
    held.hold("one", 5n, "1");
    assert.equal(held.get("one"), undefined);
  });
});
