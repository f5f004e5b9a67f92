import assert from "node:assert/strict";
import { beforeEach, describe, it } from "node:test";
import { setImmediate } from "node:timers/promises";

import type { ECSClient } from "@aws-sdk/client-ecs";

import { ManualClock } from "../../../common/manual-clock.ts";
import type { DefinitionRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { Change } from "../../state/state.ts";
import type { AwsService } from "../aws/clients.ts";
import { capturedLogger } from "../../cloud/testing/captured-logger.ts";
import { fakeClient, type Input, refusal } from "../testing/fake-client.ts";
import type { Definition } from "./definition.ts";
import { Definitions, familyOf } from "./definitions.ts";

const dayMs = 24 * 60 * 60_000;
const definition: Definition = { family: "sockerless-01-a", containerDefinitions: [] };
const arn = (family: string): string => `arn:aws:ecs:eu-west-1:123456789012:task-definition/${family}:1`;

describe("task definitions", () => {
  let clock: ManualClock;
  let records: Map<string, DefinitionRecord>;
  /** Families whose definitions are active in AWS. */
  let registered: Set<string>;
  /** ARNs that were deregistered and not deleted. */
  let inactive: Set<string>;
  let isRefusing: boolean;
  /** Number of registrations that are made and whose answers are lost. */
  let isLosing: number;
  /** ARNs that AWS lists; undefined: the registered ones. */
  let listed: readonly string[] | undefined;
  /** Registrations are answered after this. */
  let held: Promise<void>;
  let fake: ReturnType<typeof fakeClient<AwsService<ECSClient>>>;

  beforeEach(() => {
    clock = new ManualClock();
    records = new Map();
    registered = new Set();
    inactive = new Set();
    isRefusing = false;
    isLosing = 0;
    held = Promise.resolve();
    listed = undefined;
    fake = fakeClient({
      DescribeTaskDefinition: ({ taskDefinition }: Input) => {
        if (!registered.has(String(taskDefinition))) {
          throw refusal(
            "ecs",
            "DescribeTaskDefinition",
            "ClientException",
            "Unable to describe task definition.",
          );
        }
        return { taskDefinition: { taskDefinitionArn: arn(String(taskDefinition)), status: "ACTIVE" } };
      },
      RegisterTaskDefinition: async ({ family }: Input) => {
        await held;
        if (isRefusing) {
          throw refusal("ecs", "RegisterTaskDefinition", "AccessDeniedException");
        }
        registered.add(String(family));
        if (isLosing > 0) {
          isLosing -= 1;
          throw refusal("ecs", "RegisterTaskDefinition", "ECONNRESET");
        }
        return { taskDefinition: { taskDefinitionArn: arn(String(family)) } };
      },
      DeregisterTaskDefinition: ({ taskDefinition }: Input) => {
        registered.delete(/\/(.*):1$/.exec(String(taskDefinition))?.[1] ?? "");
        inactive.add(String(taskDefinition));
        return {};
      },
      ListTaskDefinitions: ({ status, familyPrefix }: Input) => ({
        taskDefinitionArns:
          status === "ACTIVE"
            ? (listed ?? [...registered].map(arn))
            : [...inactive].filter((each) => familyOf(each) === familyPrefix),
      }),
      ListTaskDefinitionFamilies: ({ familyPrefix, status }: Input) => {
        assert.equal(status, "INACTIVE");
        const families = new Set([...inactive].map(familyOf));
        return {
          families: [...families].filter(
            (family) => family.startsWith(String(familyPrefix)) && !registered.has(family),
          ),
        };
      },
      DeleteTaskDefinitions: ({ taskDefinitions }: Input) => {
        for (const each of taskDefinitions as string[]) {
          assert.ok(inactive.delete(each), `${each} is active`);
        }
        return { failures: [] };
      },
    });
  });

  /** The definitions as a backend has them that has just started. */
  const definitions = (): Definitions => {
    const change = {
      definitions: {
        put: (record: DefinitionRecord) => void records.set(record.family, record),
        delete: (family: string) => void records.delete(family),
      },
    } as unknown as Change;
    const commit = (describe: (change: Change) => void): Promise<void> => Promise.resolve(describe(change));
    const { logger } = capturedLogger();
    return new Definitions({
      ecs: fake.client,
      instance: "sockerless/01",
      state: { definitions: records, commit },
      clock,
      logger,
    });
  };
  const sweep = (of: Definitions): Promise<void> => of.sweep(new AbortController().signal);
  const times = (operation: string): number => fake.made(operation).length;

  it("are registered once, however many ask at once", async () => {
    const known = definitions();
    const arns = await Promise.all(Array.from({ length: 20 }, () => known.ensure(definition)));
    assert.deepEqual(new Set(arns), new Set([arn("sockerless-01-a")]));
    assert.equal(times("RegisterTaskDefinition"), 1);
  });

  it("are registered one at a time for what one Docker socket has made, and at once for others", async () => {
    const known = definitions();
    const of = (name: string): Definition => ({ ...definition, family: `sockerless-01-${name}` });
    const answer = Promise.withResolvers<void>();
    held = answer.promise;
    const left = new AbortController();
    const all = [1, 2, 3].map((at) => known.ensure(of(`${at}`), undefined, "socket"));
    const last = known.ensure(of("4"), left.signal, "socket");
    all.push(known.ensure(of("3")), known.ensure(of("c"), undefined, "other"));
    await setImmediate();
    assert.equal(times("RegisterTaskDefinition"), 3);
    left.abort();
    await assert.rejects(last);
    answer.resolve();
    await Promise.all(all);
    assert.equal(times("RegisterTaskDefinition"), 4);
  });

  it("are asked for by the next start where the first one has ended", async () => {
    const known = definitions();
    const answer = Promise.withResolvers<void>();
    held = answer.promise;
    const left = new AbortController();
    const first = known.ensure(definition, left.signal);
    const second = known.ensure(definition);
    await setImmediate();
    left.abort();
    held = Promise.resolve();
    answer.reject(left.signal.reason as Error);
    await assert.rejects(first);
    assert.equal(await second, arn("sockerless-01-a"));
  });

  it("are waited for by each start as long as it goes on, the first or another", async () => {
    const known = definitions();
    const answer = Promise.withResolvers<void>();
    held = answer.promise;
    const first = known.ensure(definition);
    const left = new AbortController();
    let gone = 0;
    for (let at = 0; at < 10; at++) {
      known.ensure({ ...definition }, left.signal).catch(() => {
        gone += 1;
      });
    }
    await setImmediate();
    left.abort();
    await setImmediate();
    assert.equal(gone, 10);
    answer.resolve();
    assert.equal(await first, arn("sockerless-01-a"));
    assert.equal(times("RegisterTaskDefinition"), 1);
    assert.equal(known.contentOf(await first), definition);
  });

  it("are known again by the next backend, and by one that has lost its state", async () => {
    await definitions().ensure(definition);
    assert.equal(await definitions().ensure(definition), arn("sockerless-01-a"));
    assert.equal(times("DescribeTaskDefinition"), 1);
    records.clear();
    assert.equal(await definitions().ensure(definition), arn("sockerless-01-a"));
    assert.equal(times("RegisterTaskDefinition"), 1);
  });

  it("are registered anew where somebody has deregistered them", async () => {
    const known = definitions();
    await known.ensure(definition);
    registered.clear();
    await known.forget(definition.family);
    await known.ensure(definition);
    assert.equal(times("RegisterTaskDefinition"), 2);
  });

  it("are asked for again after a refusal", async () => {
    const known = definitions();
    isRefusing = true;
    await assert.rejects(known.ensure(definition), /AccessDenied/);
    isRefusing = false;
    assert.equal(await known.ensure(definition), arn("sockerless-01-a"));
  });

  it("leave nothing where they are refused, and only the last are remembered", async () => {
    const known = definitions();
    isRefusing = true;
    await assert.rejects(known.ensure(definition), /AccessDenied/);
    assert.equal(known.contentOf(arn(definition.family)), undefined);
    isRefusing = false;
    await known.ensure(definition);
    await known.ensure({ ...definition, family: "sockerless-01-first" });
    for (let index = 0; index < 255; index++) {
      await known.ensure({ ...definition, family: `sockerless-01-${index}` });
      await known.ensure(definition);
    }
    assert.equal(known.contentOf(arn(definition.family)), definition);
    assert.equal(known.contentOf(arn("sockerless-01-first")), undefined);
  });

  it("are looked for before they are registered again where the answer to a registration was lost", async () => {
    isLosing = 1;
    const known = definitions();
    await assert.rejects(known.ensure(definition), /ECONNRESET/);
    assert.equal(await known.ensure(definition), arn("sockerless-01-a"));
    assert.equal(times("RegisterTaskDefinition"), 1);
    assert.equal(times("DescribeTaskDefinition"), 2);
  });

  it("that are registered twice are left once: that which is used, or else the newest", async () => {
    const known = definitions();
    await known.ensure(definition);
    const family = arn("sockerless-01-a").replace(/1$/, "");
    listed = [`${family}1`, `${family}2`, `${arn("sockerless-01-b")}`, `${arn("sockerless-01-b")}2`];
    await sweep(known);
    assert.deepEqual(
      fake.made("DeregisterTaskDefinition").map((input) => input["taskDefinition"]),
      [`${family}2`, arn("sockerless-01-b")],
    );
  });

  it("are deleted once they are deregistered, those that an earlier sweep has left too, ten at a time", async () => {
    const known = definitions();
    await known.ensure(definition);
    const others = [arn("sockerless-02-a"), arn("web")];
    const left = Array.from({ length: 12 }, (_, index) => arn(`sockerless-01-${index}`));
    inactive = new Set([...left, ...others]);
    const family = arn("sockerless-01-a").replace(/1$/, "");
    listed = [`${family}1`, `${family}2`];
    await sweep(known);
    assert.deepEqual(inactive, new Set(others));
    const deleted = fake.made("DeleteTaskDefinitions").map((input) => input["taskDefinitions"] as string[]);
    assert.deepEqual(
      deleted.map(({ length }) => length),
      [10, 3],
    );
    assert.ok(deleted.flat().includes(`${family}2`), "that which was registered twice");
  });

  it("go a day after their last use, those of a lost state a day after they were seen, and others' never", async () => {
    const known = definitions();
    await known.ensure(definition);
    registered.add("sockerless-01-lost");
    const others = ["sockerless-02-a", "sockerless-web", "web"];
    for (const family of others) {
      registered.add(family);
    }
    await sweep(known);
    await clock.advance(dayMs - 60_000);
    await known.ensure(definition);
    await sweep(known);
    assert.deepEqual(registered, new Set(["sockerless-01-a", "sockerless-01-lost", ...others]));
    await clock.advance(2 * 60_000);
    await sweep(known);
    assert.deepEqual(registered, new Set(["sockerless-01-a", ...others]));
    await clock.advance(dayMs);
    await sweep(known);
    assert.deepEqual(registered, new Set(others));
    assert.equal(records.size, 0);
    await known.ensure(definition);
    assert.equal(times("RegisterTaskDefinition"), 2);
  });
});
